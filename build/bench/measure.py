"""A run against an endpoint: how requests are offered, and what came of them."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from build.bench.endpoints import Answer, Endpoint
from pika_tagger._bench import Run
from pika_tagger._labelled import Labelled
from pika_tagger._load import Load, closed_loop, poisson
from pika_tagger._server_split import between

WARM_UP = 10
IN_TURN = "in turn"
"""Name of the runs of a comparison."""


@dataclass(frozen=True)
class Offer:
    """How requests are offered: by so many callers in turn, or so many a second at random; exactly one of the two is given.

    Attributes:
        requests: How many there are in all.
        callers: Each sends its next request when it has its answer.
        rate_hz: Requests a second; infinite for all at once.
        seed: Of the random arrivals.
    """

    requests: int
    callers: int | None = None
    rate_hz: float | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """As people say it: "4 at a time", "20/s", "all at once"."""
        if self.rate_hz is None:
            return f"{self.callers} at a time"
        return "all at once" if math.isinf(self.rate_hz) else f"{self.rate_hz:g}/s"


@dataclass(frozen=True)
class Measured(Run):
    """A `Run` whose samples are answers, and how they were asked for."""

    load: Load[Answer]
    offer: Offer

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers in the order in which they were due."""
        return tuple(sorted(self.load.samples, key=lambda answer: answer.due_s))

    @property
    def complete(self) -> tuple[Answer, ...]:
        """Those that came to their end; a robot may still not be able to use them."""
        return tuple(answer for answer in self.answers if answer.failure is None)

    def goodput(self, limit_ms: float) -> tuple[float, float]:
        """Return answers that a robot can use and had within `limit_ms`: how many a second, and which share of all requests."""
        good = sum(answer.usable and answer.latency_ms <= limit_ms for answer in self.answers)
        return good / self.load.seconds, good / len(self.answers)


def measure(endpoint: Endpoint, labelled: Labelled, offers: Sequence[Offer]) -> Iterator[Measured]:
    """Warm the endpoint up, and make the runs one after the other."""
    rows = labelled.rows

    def ask(number: int, due_s: float) -> Answer:
        return endpoint.ask(rows[number % len(rows)], due_s)

    closed_loop(ask, 1, WARM_UP, _nothing)
    for offer in offers:
        before = endpoint.splits()
        load = (
            poisson(ask, offer.rate_hz, offer.requests, offer.seed)
            if offer.callers is None and offer.rate_hz is not None
            else closed_loop(ask, offer.callers or 1, offer.requests, _nothing)
        )
        yield Measured(offer.name, load, between(before, endpoint.splits()), offer)


def in_turn(endpoints: Sequence[Endpoint], labelled: Labelled, repeats: int) -> tuple[Measured, ...]:
    """Ask the endpoints by turns, one request at a time, so that a machine that is busy for a while is so for all.

    All are asked about all dialogues, but each about another one at any time: two endpoints may be one server, which answers at once what
    it was asked just before.

    Args:
        endpoints: Two or more.
        labelled: The dialogues.
        repeats: How often the file is gone through. Who is asked first changes from turn to turn.

    Returns:
        One run for each endpoint, as of one caller. Its seconds are those in which its endpoint was asked.
    """
    rows = labelled.rows
    for endpoint in endpoints:
        for number in range(WARM_UP):
            endpoint.ask(rows[number % len(rows)], time.monotonic())
    answers: list[list[Answer]] = [[] for _ in endpoints]
    before = [endpoint.splits() for endpoint in endpoints]
    for number in range(repeats * len(rows)):
        for place in range(len(endpoints)):
            turn = (number + place) % len(endpoints)
            row = rows[(number + turn * len(rows) // len(endpoints)) % len(rows)]
            answers[turn].append(endpoints[turn].ask(row, time.monotonic()))
    runs = []
    for endpoint, found, earlier in zip(endpoints, answers, before, strict=True):
        load = Load(tuple(found), sum(answer.latency_ms for answer in found) / 1000)
        runs.append(Measured(IN_TURN, load, between(earlier, endpoint.splits()), Offer(len(found), callers=1)))
    return tuple(runs)


def _nothing() -> None:
    pass
