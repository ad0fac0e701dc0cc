"""Several runs over the same dialogues side by side: the table of `evaluate`, and what quantization has changed.

A row of the table is a `Run`; a new column is one in `_COLUMNS` and in `_cells`.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pika_tagger._evaluate import Figures, figures_of
from pika_tagger._outcomes import Outcome, prediction
from pika_tagger._tables import share_text

AWQ, UNQUANTIZED = "AWQ", "unquantized"
_COLUMNS = ("emotion", "celebrate", "macro-F1", "false", "missed", "ECE emotion", "ECE celebrate", "p50 ms", "p95 ms", "failed")
_WIDTH = 140
_NONE = "-"


@dataclass(frozen=True)
class Run:
    """One way of asking, and what came of it.

    Attributes:
        strategy: How the model was asked.
        weights: `AWQ`, through the server, or `UNQUANTIZED`, in this process.
        outcomes: One per dialogue; empty if the server refused the strategy.
        refusal: Why it did.
    """

    strategy: str
    weights: str
    outcomes: tuple[Outcome, ...]
    refusal: str | None = None

    @property
    def name(self) -> str:
        """The key in the report file."""
        return self.strategy if self.weights == AWQ else self.weights

    @cached_property
    def figures(self) -> Figures | None:
        """The figures of the run; None if it was refused."""
        return figures_of(self.outcomes) if self.outcomes else None

    def json(self) -> dict[str, Any]:
        """Return the run as it stands in the report file."""
        if self.figures is None:
            return {"strategy": self.strategy, "weights": self.weights, "refusal": self.refusal}
        predictions = [prediction(outcome) for outcome in self.outcomes]
        return {"strategy": self.strategy, "weights": self.weights, "figures": self.figures.json(), "predictions": predictions}


@dataclass(frozen=True)
class Difference:
    """What changed from the unquantized checkpoint to AWQ, for one field; a positive loss means that AWQ is worse."""

    loss: float
    changed_rows: int
    rows: int

    def __str__(self) -> str:
        """In points, as people compare accuracies."""
        points = round(-self.loss * 100, 1) + 0.0  # no -0.0
        return f"{points:+.1f} points, {self.changed_rows} of {self.rows} answers changed"


def differences(awq: Run, unquantized: Run) -> dict[str, Difference]:
    """Compare two runs over the same dialogues, by field."""
    pairs = list(zip(awq.outcomes, unquantized.outcomes, strict=True))
    return {
        "emotion": _difference((a.emotion_right, b.emotion_right, a.predicted_emotion != b.predicted_emotion) for a, b in pairs),
        "celebrate": _difference((a.celebrate_right, b.celebrate_right, a.predicted_celebrate != b.predicted_celebrate) for a, b in pairs),
    }


def lost_too_much(found: dict[str, Difference], max_awq_loss: float | None) -> Iterator[str]:
    """Return one sentence for every field in which AWQ lost more accuracy than allowed."""
    for field, difference in found.items():
        if max_awq_loss is not None and difference.loss > max_awq_loss:
            yield f"{field}: AWQ lost {difference.loss:.4f} of accuracy against unquantized, more than the allowed {max_awq_loss:g}"


def summary(runs: Sequence[Run], changed: dict[str, Difference]) -> Iterator[str]:
    """Return the lines of the comparison: one per run, why a run was refused, and what quantization changed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("strategy", "weights"):
        table.add_column(column, no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(run.strategy, run.weights, *_cells(run))
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    yield from (line.rstrip() for line in text.getvalue().splitlines() if line.strip())
    yield f" false, missed: celebrations; ms: the whole call over gRPC, one after the other; {_NONE}: nothing to measure"
    for run in runs:
        if run.refusal is not None:
            yield f" {run.strategy} was refused: {run.refusal}"
        elif failed := [outcome.error for outcome in run.outcomes if outcome.error is not None]:
            yield f" {run.strategy} {run.weights}: {len(failed)} failed, the first with {failed[0]}"
    yield f"\n{AWQ} against {UNQUANTIZED} weights, both asked for codes"
    yield from (f"  {field:<9}  {difference}" for field, difference in changed.items())


def summary_json(runs: Sequence[Run], changed: dict[str, Difference]) -> dict[str, Any]:
    """Return the comparison as it stands in the report file."""
    return {
        "runs": {run.name: run.json() for run in runs},
        "awq_against_unquantized": {field: asdict(difference) for field, difference in changed.items()},
    }


def _difference(answers: Iterable[tuple[bool, bool, bool]]) -> Difference:
    """Sum up one field; an answer is whether AWQ was right, whether the unquantized checkpoint was, and whether they differ."""
    rows = list(answers)
    awq_right, unquantized_right, changed = map(sum, zip(*rows, strict=True))
    return Difference((unquantized_right - awq_right) / len(rows), changed, len(rows))


def _cells(run: Run) -> list[str]:
    figures = run.figures
    if figures is None:
        return [_NONE] * len(_COLUMNS)
    # In this process there is no server to wait for, so that its latency would be compared with what it is not.
    latency_ms = figures.latency_ms if run.weights == AWQ else {}
    return [
        share_text(figures.emotion.accuracy),
        share_text(figures.celebrate.accuracy),
        f"{figures.emotion_confusion.macro_f1:.3f}",
        str(figures.celebrate_yes.false),
        str(figures.celebrate_yes.missed),
        share_text(figures.emotion_calibration.expected_error),
        share_text(figures.celebrate_calibration.expected_error),
        *(f"{latency_ms[rank]:.1f}" if rank in latency_ms else _NONE for rank in ("p50", "p95")),
        str(figures.failed),
    ]
