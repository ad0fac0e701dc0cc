"""Confidence intervals by the bootstrap: how far a figure would move with other dialogues of the same kind.

Dialogues are drawn again, with replacement, and the figure is made anew each time; both sides of a comparison keep their dialogues
together, because a long one is slow on both (percentile intervals: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
_SEED = 20261121
_MOST_VALUES = 1 << 20
"""Drawn at a time, so that memory stays small: 8 MiB."""


@dataclass(frozen=True)
class Estimate:
    """A figure, and the interval that holds the true one in 95 of 100 cases."""

    value: float
    low: float
    high: float


def interval(a: Values, b: Values, figure: Callable[[Values, Values], Values]) -> Estimate:
    """Return a figure of two sides with its interval.

    Args:
        a: One row for each dialogue, [dialogues, repeats], any unit.
        b: The same dialogues on the other side, in the same order; another number of repeats is possible.
        figure: Makes one number of the values in each row of both, [draws, values]; returns [draws].

    Raises:
        ValueError: The two are not about the same number of dialogues, or about none.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} dialogues on one side, {len(b)} on the other: give the same ones, at least one")
    chance = np.random.default_rng(_SEED)
    at_a_time = max(1, _MOST_VALUES // (a.size + b.size))
    found = []
    for start in range(0, RESAMPLES, at_a_time):
        draws = chance.integers(len(a), size=(min(at_a_time, RESAMPLES - start), len(a)))
        found.append(figure(a[draws].reshape(len(draws), -1), b[draws].reshape(len(draws), -1)))
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(figure(a.reshape(1, -1), b.reshape(1, -1))[0]), float(low), float(high))
