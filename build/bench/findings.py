"""What a reader of a run must know before believing its figures, found in the run itself, with what to do about it.

Each finding is one function, and an entry in `findings`. The limits are rules of thumb, named and explained where they stand.
"""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from build.bench.measure import Measured

_FEWEST = 20
"""With fewer requests no shape of a run can be seen."""
_MOST, _FEW = 0.9, 0.1
_AT_ONCE_SHARE = 0.05
"""All at once: most requests were sent in this share of the duration or less, and when they had been, few were answered."""
_LATER_IS_SLOWER = 2.0
"""Overload: the last fifth of the arrivals took so many times as long as the first fifth, at the median."""
_FOR_P99 = 300
"""With fewer requests, p99 is the second or third slowest, and chance decides."""


@dataclass(frozen=True)
class Finding:
    """One thing to know, and what to do instead."""

    what: str
    instead: str


def findings(run: Measured) -> list[Finding]:
    """Return what is to be said about a run, the gravest first."""
    return [*_all_at_once(run), *_overload(run), *_failed(run), *_cut(run), *_unusable(run), *_repeats(run), *_few(run)]


def arrived_at_once(run: Measured) -> bool:
    """Whether nearly all requests were sent at the beginning, and were in the server together.

    That the quickest was much quicker than the rest is no sign: a server that batches makes all of them wait alike.
    """
    answers = run.answers
    if len(run.complete) < _FEWEST:
        return False
    sent_s = answers[math.ceil(_MOST * len(answers)) - 1].due_s
    answered = sum(answer.due_s + answer.latency_ms / 1000 <= sent_s for answer in answers)
    return sent_s - answers[0].due_s <= _AT_ONCE_SHARE * run.load.seconds and answered < _FEW * len(answers)


def _all_at_once(run: Measured) -> Iterator[Finding]:
    if not arrived_at_once(run):
        return
    first_ms = sorted(answer.first_ms for answer in run.complete)
    yield Finding(
        f"All {len(run.answers)} requests arrived at once. TTFT and latency are therefore time spent waiting for the others, in line or in "
        f"the same batch, not time that the server needs for one: the quickest had its first token after {_time(first_ms[0])}, half of "
        f"them not before {_time(statistics.median(first_ms))}, the last after {_time(first_ms[-1])}. With more requests these grow in "
        "proportion. Only throughput means anything here.",
        "Robots do not ask like this. Offer what they do: --rate 20 (arrivals at random, so many a second) or --concurrency 1 4 16. In "
        "`vllm bench serve` that is --request-rate 20 or --max-concurrency 4; its default rate is infinite, which is this case.",
    )


def _overload(run: Measured) -> Iterator[Finding]:
    rate_hz = run.offer.rate_hz
    fifth = len(run.complete) // 5
    if rate_hz is None or math.isinf(rate_hz) or fifth < _FEWEST // 5 or arrived_at_once(run):
        return
    early, late = (statistics.median(answer.latency_ms for answer in part) for part in (run.complete[:fifth], run.complete[-fifth:]))
    if late >= _LATER_IS_SLOWER * early:
        yield Finding(
            f"The server does not keep up with {rate_hz:g} requests a second: the first fifth took {_time(early)} at the median, the last "
            f"{_time(late)}. The line grows for as long as the run lasts, and so would these figures.",
            f"It answered {len(run.complete) / run.load.seconds:.1f} a second. Offer less, or use a second server.",
        )


def _failed(run: Measured) -> Iterator[Finding]:
    if run.failures:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(run.failures.items()))
        yield Finding(
            f"{sum(run.failures.values())} of {len(run.answers)} requests failed ({reasons}). They are in no latency, and count as wrong.",
            "Compare nothing with this run before they are gone: what fails early makes the rest look fast.",
        )


def _cut(run: Measured) -> Iterator[Finding]:
    if count := sum(answer.cut for answer in run.complete):
        yield Finding(
            f"{count} of {len(run.complete)} answers were cut at max_tokens: they are as slow as any can be, and no whole JSON.",
            "The model does not stop after the JSON: look at its chat template and its end token, or ask for one token.",
        )


def _unusable(run: Measured) -> Iterator[Finding]:
    if count := sum(not answer.usable and not answer.cut for answer in run.complete):
        yield Finding(
            f"{count} of {len(run.complete)} answers came whole, but are not the JSON that was asked for, with a label that exists.",
            "They count as wrong, and are left out of the goodput. One token that is read from its logits always is an answer.",
        )


def _repeats(run: Measured) -> Iterator[Finding]:
    repeats = len(run.answers) - len({answer.line for answer in run.answers})
    if repeats > _FEW * len(run.answers):
        yield Finding(
            f"{repeats} of {len(run.answers)} requests were about a dialogue that had been asked about before: a server that caches "
            "prefixes has seen it whole, and is faster than with new ones.",
            "Give a file with as many dialogues as there are requests, if you have one.",
        )


def _few(run: Measured) -> Iterator[Finding]:
    if len(run.complete) < _FOR_P99:
        yield Finding(
            f"{len(run.complete)} answers are few for P99: two or three of them decide it.", f"Ask at least {_FOR_P99} times (--requests)."
        )


def _time(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
