"""What an evaluation must reach: the figures that were asked for, and which of them were missed.

A new limit is a field here, and a flag in `cli`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pika_tagger._evaluate import Figures


@dataclass(frozen=True)
class Wanted:
    """Limits, all of them shares between 0 and 1; None where nothing is asked for."""

    min_emotion: float | None = None
    min_celebrate: float | None = None
    min_macro_f1: float | None = None
    max_ece: float | None = None


def missed(figures: Figures, wanted: Wanted) -> Iterator[str]:
    """Return one sentence for every limit that was missed; requests that failed miss whatever was asked for."""
    if figures.failed:
        yield f"{figures.failed} of {figures.emotion.total} requests failed, and count as wrong"
    for name, value, least in (
        ("emotion accuracy", figures.emotion.accuracy, wanted.min_emotion),
        ("celebrate accuracy", figures.celebrate.accuracy, wanted.min_celebrate),
        ("emotion macro-F1", figures.emotion_confusion.macro_f1, wanted.min_macro_f1),
    ):
        if least is not None and value < least:
            yield f"{name} {value:.4f} is below the wanted {least:g}"
    if wanted.max_ece is None:
        return
    for name, error in (
        ("emotion", figures.emotion_calibration.expected_error),
        ("celebrate", figures.celebrate_calibration.expected_error),
    ):
        if error is None:
            yield f"{name} calibration cannot be judged: there is no answer with a probability"
        elif error > wanted.max_ece:
            yield f"{name} calibration error {error:.4f} is above the wanted {wanted.max_ece:g}"
