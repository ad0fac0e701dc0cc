"""Celebrating over the threshold: what other probabilities of yes to begin at would have brought.

The server's threshold is a line of its task file and no part of an answer, but the answers enclose it: it lies above every score that was
answered with no, and not above any that was answered with yes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pika_tagger._agreement import LabelFigures, celebrations

STEPS = tuple(step / 20 for step in range(1, 20))


@dataclass(frozen=True)
class Thresholds:
    """Celebrations at each of `STEPS`, and between which two probabilities the present threshold lies.

    Attributes:
        figures: One entry per step.
        present: The lowest and the highest value that the present threshold may have; None if no threshold explains the answers.
    """

    figures: tuple[LabelFigures, ...]
    present: tuple[float, float] | None

    def at(self, present: float) -> "Thresholds":
        """Return the same with the present threshold known, as it is to those who have the task file."""
        return replace(self, present=(present, present))

    def json(self) -> dict[str, Any]:
        """Return the celebrations as they stand in the report file."""
        return {
            "present_threshold_between": self.present and list(self.present),
            "steps": [{"threshold": step, **each.celebrate_json()} for step, each in zip(STEPS, self.figures, strict=True)],
        }


def thresholds(answers: Iterable[tuple[bool, bool | None, float | None]]) -> Thresholds:
    """Try every step on triples of the wanted flag, the given one, and the probability of yes; None twice where a request failed."""
    answers = list(answers)
    tried = [celebrations((wanted, None if score is None else score >= step) for wanted, _, score in answers) for step in STEPS]
    return Thresholds(tuple(tried), _present(answers))


def _present(answers: Sequence[tuple[bool, bool | None, float | None]]) -> tuple[float, float] | None:
    scores = [(given, score) for _, given, score in answers if score is not None]
    low = max((score for given, score in scores if not given), default=0.0)
    high = min((score for given, score in scores if given), default=1.0)
    return (low, high) if low <= high else None
