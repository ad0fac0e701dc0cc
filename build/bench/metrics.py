"""The figures of a run under their usual names: TTFT, TPOT, ITL, request latency, throughput, goodput, and accuracy.

A figure that makes no sense for a run has no values and says why. Requests without a whole answer are in no latency; they are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from build.bench.endpoints import Answer
from build.bench.measure import Measured
from pika_tagger._bench import LIMITS_MS, PERCENTILES
from pika_tagger._evaluate import Count, latencies
from pika_tagger._labelled import Row

TTFT, TPOT, ITL, LATENCY = "ttft", "tpot", "itl", "latency"
TITLES = {
    TTFT: ("TTFT", "Time to First Token"),
    TPOT: ("TPOT", "Time per Output Token (excl. 1st token)"),
    ITL: ("ITL", "Inter-token Latency"),
    LATENCY: ("E2EL", "Request Latency, end to end"),
}
ONE_TOKEN, WHOLE, NOTHING = "n/a (1 token)", "n/a (the answer comes whole)", "n/a (no answer)"


@dataclass(frozen=True)
class Metric:
    """One figure of a run.

    Attributes:
        name: One of `TITLES`.
        values_ms: One for each request; for `ITL` one for each pause between two pieces.
        absent: Why there are none; None if there are.
    """

    name: str
    values_ms: tuple[float, ...]
    absent: str | None

    @property
    def mean_ms(self) -> float:
        """The mean of the values, of which there is at least one."""
        return sum(self.values_ms) / len(self.values_ms)

    @property
    def percentiles_ms(self) -> dict[str, float]:
        """Percentiles by nearest rank, and the maximum; empty if there are no values."""
        return latencies(self.values_ms, PERCENTILES)

    def json(self) -> dict[str, Any]:
        """Return the figure as it stands in the report file."""
        return {"absent": self.absent} if self.absent is not None else {"mean_ms": self.mean_ms, **self.percentiles_ms}


@dataclass(frozen=True)
class Throughput:
    """How much came of it, by second. Tokens are None where nobody counts them."""

    requests_hz: float
    output_tokens_hz: float | None


def metrics(run: Measured) -> dict[str, Metric]:
    """Return the figures of a run by name."""
    complete = run.complete
    streamed = [answer for answer in complete if answer.pieces_ms]
    several = [(answer, answer.output_tokens) for answer in streamed if answer.output_tokens is not None and answer.output_tokens > 1]
    pauses = tuple(after - before for answer in streamed for before, after in pairwise(answer.pieces_ms))
    per_token = tuple((answer.latency_ms - answer.first_ms) / (tokens - 1) for answer, tokens in several)
    return {
        TTFT: _metric(TTFT, tuple(answer.first_ms for answer in complete), complete),
        TPOT: _metric(TPOT, per_token, complete),
        ITL: _metric(ITL, pauses, complete),
        LATENCY: _metric(LATENCY, tuple(answer.latency_ms for answer in complete), complete),
    }


def throughput(run: Measured) -> Throughput:
    """Return requests with a whole answer, and tokens of such answers, by second."""
    tokens = [answer.output_tokens for answer in run.complete]
    known = [each for each in tokens if each is not None]
    return Throughput(len(tokens) / run.load.seconds, sum(known) / run.load.seconds if known and len(known) == len(tokens) else None)


def accuracy(run: Measured, rows: Mapping[int, Row]) -> tuple[Count, Count] | None:
    """Return how many answers are right, emotion and celebrate; None if there are no labels.

    An answer that is missing or cannot be used is wrong.
    """
    if not rows:
        return None
    emotions = [emotion_right(answer, rows[answer.line]) for answer in run.answers]
    celebrations = [celebrate_right(answer, rows[answer.line]) for answer in run.answers]
    return Count(sum(emotions), len(emotions)), Count(sum(celebrations), len(celebrations))


def emotion_right(answer: Answer, row: Row) -> bool:
    """Whether the emotion is one that its row accepts."""
    return answer.usable and answer.emotion_name in row.emotions


def celebrate_right(answer: Answer, row: Row) -> bool:
    """Whether the flag is the one of its row."""
    return answer.usable and answer.celebrate == row.celebrate


def json_of(run: Measured, rows: Mapping[int, Row]) -> dict[str, Any]:
    """Return the figures of a run as they stand in the report file."""
    speed, right = throughput(run), accuracy(run, rows)
    return {
        "metrics": {name: metric.json() for name, metric in metrics(run).items()},
        "requests_per_second": speed.requests_hz,
        "output_tokens_per_second": speed.output_tokens_hz,
        "goodput": {f"{limit}_ms": dict(zip(("per_second", "share"), run.goodput(limit), strict=True)) for limit in LIMITS_MS},
        "failures": run.failures,
        "unusable": unusable(run),
        "emotion": right and right[0].json(),
        "celebrate": right and right[1].json(),
    }


def unusable(run: Measured) -> int:
    """Return how many answers are whole, but not the JSON that was asked for."""
    return sum(not answer.usable for answer in run.complete)


def _metric(name: str, values_ms: tuple[float, ...], complete: Sequence[Answer]) -> Metric:
    if values_ms:
        return Metric(name, values_ms, None)
    if not complete:
        return Metric(name, (), NOTHING)
    return Metric(name, (), ONE_TOKEN if all(answer.output_tokens == 1 for answer in complete) else WHOLE)
