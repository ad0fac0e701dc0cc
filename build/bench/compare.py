"""Two runs over the same dialogues beside each other: latency, accuracy, where they disagree, with intervals.

Here are the figures; what is concluded from them is in `verdict`. The sides are called A, what there is now, and B, what may replace it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from build.bench.bootstrap import Estimate, Values, interval
from build.bench.endpoints import Answer
from build.bench.measure import IN_TURN, Measured
from build.bench.metrics import celebrate_right, emotion_right
from build.bench.session import Session
from build.errors import PipelineError
from pika_tagger._labelled import Row

_PERCENTS = (50, 95)
_RULE_OF_THREE = 3.0
"""What was seen in none of n cases happens in up to 3 of n, at 95 % (J. A. Hanley, A. Lippman-Hand, JAMA 249, 1983)."""


@dataclass(frozen=True)
class Latency:
    """One percentile of the request latency on both sides, in milliseconds; `ratio` above 1 means that B is quicker."""

    percent: int
    a_ms: float
    b_ms: float
    ratio: Estimate


@dataclass(frozen=True)
class Accuracy:
    """One field on both sides; `gain` is B's accuracy less A's, as a share.

    Attributes:
        field: "emotion" or "celebrate".
        a: Share of dialogues that A gets right.
        b: Share of dialogues that B gets right.
        gain: With its interval.
        only_a: Dialogues that A alone gets right.
        only_b: Dialogues that B alone gets right.
    """

    field: str
    a: float
    b: float
    gain: Estimate
    only_a: int
    only_b: int


@dataclass(frozen=True)
class Disagreement:
    """One dialogue with two answers."""

    row: Row
    a: Answer
    b: Answer


@dataclass(frozen=True)
class Verdict:
    """What a comparison found.

    Attributes:
        names: Of A and B.
        dialogues: How many were asked about on both sides.
        latencies_ms: Of A and B, of the requests that are compared.
        latency: One for each percentile; empty if not one dialogue was answered by both.
        accuracy: Emotion and celebrate.
        disagreements: In the order of the file.
        failed: Requests without a whole answer, on A and on B.
        in_turn: Whether the two were asked in turn.
    """

    names: tuple[str, str]
    dialogues: int
    latencies_ms: tuple[Values, Values]
    latency: tuple[Latency, ...]
    accuracy: tuple[Accuracy, ...]
    disagreements: tuple[Disagreement, ...]
    failed: tuple[int, int]
    in_turn: bool


def compare(a: Session, b: Session) -> Verdict:
    """Compare two sessions by the runs that have the same name: those in turn if there are, else the first.

    Raises:
        PipelineError: They are about different files, or have no run of the same name.
    """
    if a.sha256 != b.sha256:
        raise PipelineError(f"{a.name} was asked about {a.file}, {b.name} about another file or version: measure both on the same one")
    theirs = {run.name: run for run in b.runs}
    common = sorted((run for run in a.runs if run.name in theirs), key=lambda run: run.name != IN_TURN)
    if not common:
        raise PipelineError(
            f"{a.name} and {b.name} were not asked in the same way ({', '.join(run.name for run in a.runs)}; {', '.join(theirs)}): "
            "measure both with the same --concurrency or --rate"
        )
    run_a, run_b = common[0], theirs[common[0].name]
    by_line_a, by_line_b = _by_line(run_a), _by_line(run_b)
    lines = [line for line in a.rows if line in by_line_a and line in by_line_b]
    if not lines:
        raise PipelineError("no dialogue was asked about on both sides: ask at least as often as there are dialogues (--requests)")
    pairs = [Disagreement(a.rows[line], by_line_a[line][0], by_line_b[line][0]) for line in lines]
    answered_a, answered_b = _complete(by_line_a), _complete(by_line_b)
    both = [line for line in lines if line in answered_a and line in answered_b]
    ms_a, ms_b = _matrix(answered_a, both), _matrix(answered_b, both)
    return Verdict(
        names=(a.name, b.name),
        dialogues=len(lines),
        latencies_ms=(ms_a.ravel(), ms_b.ravel()),
        latency=tuple(_latency(percent, ms_a, ms_b) for percent in _PERCENTS) if both else (),
        accuracy=(_accuracy("emotion", pairs, emotion_right), _accuracy("celebrate", pairs, celebrate_right)),
        disagreements=tuple(pair for pair in pairs if _said(pair.a) != _said(pair.b)),
        failed=(sum(run_a.failures.values()), sum(run_b.failures.values())),
        in_turn=common[0].name == IN_TURN,
    )


def _said(answer: Answer) -> tuple[str | None, bool | None]:
    return answer.emotion_name, answer.celebrate


def _by_line(run: Measured) -> dict[int, list[Answer]]:
    found = defaultdict(list)
    for answer in run.answers:
        found[answer.line].append(answer)
    return dict(found)


def _complete(by_line: Mapping[int, list[Answer]]) -> dict[int, list[float]]:
    found = {line: [answer.latency_ms for answer in answers if answer.failure is None] for line, answers in by_line.items()}
    return {line: latencies_ms for line, latencies_ms in found.items() if latencies_ms}


def _matrix(latencies_ms: Mapping[int, list[float]], lines: list[int]) -> Values:
    """Latencies [lines, repeats], with as many repeats as every line has."""
    repeats = min((len(latencies_ms[line]) for line in lines), default=0)
    return np.array([latencies_ms[line][:repeats] for line in lines], dtype=np.float64)


def _latency(percent: int, ms_a: Values, ms_b: Values) -> Latency:
    ratio = interval(ms_a, ms_b, lambda a, b: np.percentile(a, percent, axis=1) / np.percentile(b, percent, axis=1))
    return Latency(percent, float(np.percentile(ms_a, percent)), float(np.percentile(ms_b, percent)), ratio)


def _accuracy(field: str, pairs: list[Disagreement], right: Callable[[Answer, Row], bool]) -> Accuracy:
    a, b = (np.array([[float(right(answer, pair.row))] for pair, answer in side]) for side in _sides(pairs))
    gain = interval(a, b, lambda one, other: other.mean(axis=1) - one.mean(axis=1))
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    if not only_a and not only_b:  # then every draw gives 0, and the interval would claim to be certain
        widest = min(1.0, _RULE_OF_THREE / len(pairs))
        gain = Estimate(0.0, -widest, widest)
    return Accuracy(field, float(a.mean()), float(b.mean()), gain, only_a, only_b)


def _sides(pairs: list[Disagreement]) -> tuple[list[tuple[Disagreement, Answer]], list[tuple[Disagreement, Answer]]]:
    return [(pair, pair.a) for pair in pairs], [(pair, pair.b) for pair in pairs]
