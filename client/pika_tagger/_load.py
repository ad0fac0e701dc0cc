"""Load for a tagger: as many callers as wanted one after the other's answer, or lines that arrive as they do in life.

Here is who asks when; figures are made in `_bench`. No text of a dialogue enters a sample.
"""

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pika_tagger._client import TaggerClient
from pika_tagger._types import Dialogue, Tag

_MOST_CALLERS = 256


@dataclass(frozen=True)
class Sample:
    """One request: milliseconds from when it was due to its answer, and why there is none, in one word, or None."""

    latency_ms: float
    failure: str | None


@dataclass(frozen=True)
class Load:
    """What was asked and what came back; `seconds` is from the first request to the last answer."""

    samples: tuple[Sample, ...]
    seconds: float


def closed_loop(tagger: TaggerClient, dialogues: Sequence[Dialogue], callers: int, requests: int, before: Callable[[], None]) -> Load:
    """Let `callers` ask, each the next line as soon as it has its answer; `before` is called before each request and is not measured."""
    numbers, lock = itertools.count(), threading.Lock()

    def ask_on(_: int) -> list[Sample]:
        samples: list[Sample] = []
        while True:
            with lock:
                number = next(numbers)
            if number >= requests:
                return samples
            before()
            tag = _ask(tagger, dialogues, number)
            samples.append(Sample(tag.latency_ms, tag.fallback_reason))

    started_s = time.monotonic()
    with ThreadPoolExecutor(callers) as pool:
        samples = tuple(itertools.chain.from_iterable(pool.map(ask_on, range(callers))))
    return Load(samples, time.monotonic() - started_s)


def poisson(tagger: TaggerClient, dialogues: Sequence[Dialogue], rate_hz: float, requests: int, seed: int) -> Load:
    """Let lines arrive at random, `rate_hz` a second on average, whether or not those before have been answered.

    Latency counts from when a line was due. Otherwise a server that stalls would be asked less for as long as it does, and look better than
    it is.
    """
    chance = random.Random(seed)
    due_s = list(itertools.accumulate(chance.expovariate(rate_hz) for _ in range(requests)))
    started_s = time.monotonic()

    def ask_at(number: int) -> Sample:
        tag = _ask(tagger, dialogues, number)
        return Sample((time.monotonic() - started_s - due_s[number]) * 1000, tag.fallback_reason)

    with ThreadPoolExecutor(_MOST_CALLERS) as pool:
        futures = []
        for number, due in enumerate(due_s):
            time.sleep(max(0.0, started_s + due - time.monotonic()))
            futures.append(pool.submit(ask_at, number))
        samples = tuple(future.result() for future in futures)
    return Load(samples, time.monotonic() - started_s)


def _ask(tagger: TaggerClient, dialogues: Sequence[Dialogue], number: int) -> Tag:
    return tagger.tag(**dialogues[number % len(dialogues)], budget_ms=math.inf, on_failure="fallback")
