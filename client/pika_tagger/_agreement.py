"""How predictions agree with labels: per label and in a table for emotions, and for celebrating.

An emotion has a list of acceptable labels, so what is true depends on the answer: see `true_label`. A failed request predicts nothing: it
is missing from what was true, and stands against recall, but not against the precision of any label.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LabelFigures:
    """What one label got: right, wrongly predicted, and missed; None where nothing is there to divide by."""

    right: int
    false: int
    missed: int

    @property
    def support(self) -> int:
        """How often the label is true."""
        return self.right + self.missed

    @property
    def precision(self) -> float | None:
        """How much of what was predicted as this label is true."""
        return _share(self.right, self.right + self.false)

    @property
    def recall(self) -> float | None:
        """How much of what is truly this label was predicted as it."""
        return _share(self.right, self.support)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; 0 if never right, None for a label that is neither true nor predicted anywhere."""
        return _share(2 * self.right, 2 * self.right + self.false + self.missed)

    def json(self) -> dict[str, Any]:
        """Return the figures of the label as they stand in the report file."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.support}

    def celebrate_json(self) -> dict[str, Any]:
        """Return the figures of the answer yes to celebrate as they stand in the report file."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "right_celebrations": self.right,
            "false_celebrations": self.false,
            "missed_celebrations": self.missed,
        }


@dataclass(frozen=True)
class Confusion:
    """How often each true label (rows) was predicted as each label (columns).

    Attributes:
        labels: The labels of rows and columns alike.
        counts: One row per true label, one column per predicted label.
        failed: How many requests failed, by true label; they are in no column.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    failed: tuple[int, ...]

    def by_label(self) -> dict[str, LabelFigures]:
        """Return the figures of every label, in the order of the labels."""
        predicted = [sum(column) for column in zip(*self.counts, strict=True)]
        found = {}
        for index, label in enumerate(self.labels):
            right, support = self.counts[index][index], sum(self.counts[index]) + self.failed[index]
            found[label] = LabelFigures(right, false=predicted[index] - right, missed=support - right)
        return found

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that are true or predicted at least once; one that is only ever predicted has F1 0."""
        scores = [figures.f1 for figures in self.by_label().values() if figures.f1 is not None]
        return sum(scores) / len(scores)

    def json(self) -> dict[str, Any]:
        """Return the counts as they stand in the report file."""
        return {"labels": list(self.labels), "true_by_predicted": [list(row) for row in self.counts], "failed": list(self.failed)}


def true_label(acceptable: Sequence[str], predicted: str | None) -> str:
    """Return what counts as true: the prediction if it is acceptable, otherwise the first acceptable label.

    So an acceptable answer is right for the label that was predicted, and a wrong one is missed by the label that the row names first. The
    support of a label therefore depends on the answers as soon as rows accept more than one label.
    """
    return predicted if predicted is not None and predicted in acceptable else acceptable[0]


def confusion(answers: Iterable[tuple[Sequence[str], str | None]], labels: Sequence[str]) -> Confusion:
    """Count pairs of acceptable labels and the predicted one, which is None for a failed request; all must be among `labels`."""
    counted = Counter((true_label(acceptable, predicted), predicted) for acceptable, predicted in answers)
    return Confusion(
        labels=tuple(labels),
        counts=tuple(tuple(counted[true, predicted] for predicted in labels) for true in labels),
        failed=tuple(counted[true, None] for true in labels),
    )


def celebrations(answers: Iterable[tuple[bool, bool | None]]) -> LabelFigures:
    """Count pairs of the wanted and the given flag, with yes as the label.

    A failed request (None) misses the celebration if one was wanted, and is no false celebration if none was.
    """
    counted = Counter(answers)
    return LabelFigures(right=counted[True, True], false=counted[False, True], missed=counted[True, False] + counted[True, None])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
