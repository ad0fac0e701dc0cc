"""Load for a server: as many callers as wanted one after the other's answer, or lines that arrive as they do in life.

Here is who asks when; what is asked is the caller's business, and figures are made in `_bench`. No text of a dialogue enters a sample.
"""

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from pika_tagger._client import TaggerClient
from pika_tagger._types import Dialogue

_MOST_CALLERS = 1024


@dataclass(frozen=True)
class Sample:
    """One request: milliseconds from when it was due to its answer, and why there is none, in one word, or None."""

    latency_ms: float
    failure: str | None


S = TypeVar("S", bound=Sample)
S_co = TypeVar("S_co", bound=Sample, covariant=True)


@dataclass(frozen=True)
class Load(Generic[S_co]):
    """What was asked and what came back; `seconds` is from the first request to the last answer."""

    samples: tuple[S_co, ...]
    seconds: float


def closed_loop(ask: Callable[[int, float], S], callers: int, requests: int, before: Callable[[], None]) -> Load[S]:
    """Let `callers` ask, each the next line as soon as it has its answer.

    Args:
        ask: Makes one request; takes its number, from 0 on, and when it is due, in seconds of `time.monotonic`.
        callers: How many ask at a time.
        requests: How many there are in all.
        before: Called before each request, and not measured.
    """
    numbers, lock = itertools.count(), threading.Lock()

    def ask_on(_: int) -> list[S]:
        samples: list[S] = []
        while True:
            with lock:
                number = next(numbers)
            if number >= requests:
                return samples
            before()
            samples.append(ask(number, time.monotonic()))

    started_s = time.monotonic()
    with ThreadPoolExecutor(callers) as pool:
        samples = tuple(itertools.chain.from_iterable(pool.map(ask_on, range(callers))))
    return Load(samples, time.monotonic() - started_s)


def poisson(ask: Callable[[int, float], S], rate_hz: float, requests: int, seed: int) -> Load[S]:
    """Let lines arrive at random, `rate_hz` a second on average, whether or not those before have been answered.

    Latency counts from when a line was due. Otherwise a server that stalls would be asked less for as long as it does, and look better than
    it is. A rate of infinity lets all of them arrive at once.

    Args:
        ask: As `closed_loop` says.
        rate_hz: Lines a second.
        requests: How many there are in all.
        seed: Of the arrivals.
    """
    chance = random.Random(seed)
    started_s = time.monotonic()
    due_s = [started_s + after_s for after_s in itertools.accumulate(chance.expovariate(rate_hz) for _ in range(requests))]
    with ThreadPoolExecutor(_MOST_CALLERS) as pool:
        futures = []
        for number, due in enumerate(due_s):
            time.sleep(max(0.0, due - time.monotonic()))
            futures.append(pool.submit(ask, number, due))
        samples = tuple(future.result() for future in futures)
    return Load(samples, time.monotonic() - started_s)


def asking(tagger: TaggerClient, dialogues: Sequence[Dialogue]) -> Callable[[int, float], Sample]:
    """Return what asks a tagger for the dialogues in turn."""

    def ask(number: int, due_s: float) -> Sample:
        tag = tagger.tag(**dialogues[number % len(dialogues)], budget_ms=math.inf, on_failure="fallback")
        return Sample((time.monotonic() - due_s) * 1000, tag.fallback_reason)

    return ask
