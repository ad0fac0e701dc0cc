"""Whether a tagger is as often right as it says: expected calibration error.

Failed requests say nothing about confidence, and are left out; so are answers of a strategy that gives no probabilities.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence is from `low` up to `high`, which itself belongs to the next bin, or to this one if it is the last."""

    low: float
    high: float
    count: int
    right: int
    confidence_sum: float

    @property
    def confidence(self) -> float | None:
        """The mean confidence; None in an empty bin."""
        return self.confidence_sum / self.count if self.count else None

    @property
    def accuracy(self) -> float | None:
        """The share that is right; None in an empty bin."""
        return self.right / self.count if self.count else None

    def json(self) -> dict[str, Any]:
        """Return the bin as it stands in the report file."""
        return {"low": self.low, "high": self.high, "count": self.count, "confidence": self.confidence, "accuracy": self.accuracy}


@dataclass(frozen=True)
class Calibration:
    """Answers by confidence, in bins of equal width."""

    bins: tuple[Bin, ...]

    @property
    def count(self) -> int:
        """How many answers."""
        return sum(each.count for each in self.bins)

    @property
    def confidence(self) -> float | None:
        """The mean confidence of all answers; None without answers."""
        return sum(each.confidence_sum for each in self.bins) / self.count if self.count else None

    @property
    def accuracy(self) -> float | None:
        """The share of all answers that is right; None without answers."""
        return sum(each.right for each in self.bins) / self.count if self.count else None

    @property
    def expected_error(self) -> float | None:
        """The distance between mean confidence and accuracy of a bin, averaged over all answers; None without answers."""
        return sum(abs(each.confidence_sum - each.right) for each in self.bins) / self.count if self.count else None

    def json(self) -> dict[str, Any]:
        """Return the calibration as it stands in the report file."""
        return {
            "expected_calibration_error": self.expected_error,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
            "bins": [each.json() for each in self.bins],
        }


def calibration(answers: Iterable[tuple[float, bool]]) -> Calibration:
    """Sort pairs of a confidence and whether that answer is right into bins."""
    counts, rights, sums = [0] * BINS, [0] * BINS, [0.0] * BINS
    for confidence, right in answers:
        index = min(max(int(confidence * BINS), 0), BINS - 1)
        counts[index] += 1
        rights[index] += right
        sums[index] += confidence
    return Calibration(tuple(Bin(i / BINS, (i + 1) / BINS, counts[i], rights[i], sums[i]) for i in range(BINS)))
