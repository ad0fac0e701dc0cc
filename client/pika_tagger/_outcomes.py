"""Labelled dialogues put to a tagger, and what came back for each.

What counts as right is decided here, row by row; figures over many rows are made in `_evaluate`. No text of a dialogue enters a prediction.
"""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from pika_tagger._base import NEUTRAL_LINES
from pika_tagger._client import TaggerClient
from pika_tagger._errors import ServerError, TaggerError
from pika_tagger._labelled import Row
from pika_tagger._types import Dialogue, Tag


@dataclass(frozen=True)
class Outcome:
    """One row with its tag, or with the error in its place."""

    row: Row
    tag: Tag | None
    error: str | None = None

    @property
    def predicted_emotion(self) -> str | None:
        """The emotion of the tag; None if the request failed."""
        return None if self.tag is None else self.tag.emotion_name

    @property
    def predicted_celebrate(self) -> bool | None:
        """The flag of the tag; None if the request failed."""
        return None if self.tag is None else self.tag.celebrate

    @property
    def celebrate_score(self) -> float | None:
        """The probability of yes; None if the request failed."""
        return None if self.tag is None else self.tag.celebrate_score

    @property
    def emotion_right(self) -> bool:
        """Whether the emotion is one of the acceptable ones; a failed request is wrong."""
        return self.tag is not None and self.tag.emotion_name in self.row.emotions

    @property
    def celebrate_right(self) -> bool:
        """Whether the flag is the wanted one; a failed request is wrong."""
        return self.tag is not None and self.tag.celebrate == self.row.celebrate

    @property
    def wrongness(self) -> float:
        """The highest probability that the tagger gave to something wrong."""
        if self.tag is None:
            return 1.0
        return max(0.0 if self.emotion_right else self.tag.confidence, 0.0 if self.celebrate_right else celebrate_confidence(self.tag))


def first_answer(tagger: TaggerClient, strategy: str | None) -> None:
    """Wait for an answer that is not counted, so that the first figure holds no cost of connecting.

    Raises:
        TaggerError: Nobody answers, or the server refuses this way of answering.
    """
    tagger.health()
    if strategy is not None:
        with contextlib.suppress(ServerError):  # a model may fail at this one dialogue; each row tells for itself
            tagger.tag(**NEUTRAL_LINES, strategy=strategy, budget_ms=math.inf, on_failure="raise")


def run(tagger: TaggerClient, rows: Iterable[Row], gap_ms: float, strategy: str | None) -> Iterator[Outcome]:
    """Tag the rows one after the other with a pause of `gap_ms` between them; a failed request does not end the run."""
    for index, row in enumerate(rows):
        if index:
            time.sleep(gap_ms / 1000)
        try:
            yield Outcome(row, tagger.tag(**cast(Dialogue, row.texts), strategy=strategy, budget_ms=math.inf, on_failure="raise"))
        except TaggerError as error:
            yield Outcome(row, None, f"{type(error).__name__}: {error}")


def celebrate_confidence(tag: Tag) -> float:
    """Return the probability of the answer that was given: of yes, or of no."""
    return tag.celebrate_score if tag.celebrate else 1 - tag.celebrate_score


def prediction(outcome: Outcome) -> dict[str, Any]:
    """Return one row of the report file."""
    tag = outcome.tag
    return {
        "line": outcome.row.line,
        "id": outcome.row.id,
        "emotion_name": tag and tag.emotion_name,
        "celebrate": tag and ("yes" if tag.celebrate else "no"),
        "emotion_right": outcome.emotion_right,
        "celebrate_right": outcome.celebrate_right,
        "emotion_scores": tag and {label: round(score, 6) for label, score in tag.emotion_scores.items()},
        "celebrate_score": tag and round(tag.celebrate_score, 6),
        "latency_ms": tag and round(tag.latency_ms, 3),
        "error": outcome.error,
    }
