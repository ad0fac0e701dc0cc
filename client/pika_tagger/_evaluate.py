"""Compare a server's tags with labelled dialogues.

Here is the arithmetic: what counts as right, how figures are made, what the report file holds. No text of a dialogue enters a result.
"""

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pika_tagger._agreement import Confusion, LabelFigures, celebrations, confusion
from pika_tagger._calibration import Calibration, calibration
from pika_tagger._client import TaggerClient
from pika_tagger._errors import TaggerError
from pika_tagger._labelled import Row
from pika_tagger._types import Tag

PERCENTILES = (50, 95, 99)


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


@dataclass(frozen=True)
class Count:
    """How many of how many are right."""

    right: int
    total: int

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return self.right / self.total

    def json(self) -> dict[str, float]:
        """Return the count as it stands in the report file."""
        return {"accuracy": self.accuracy, "right": self.right, "total": self.total}


@dataclass(frozen=True)
class Figures:
    """What an evaluation found."""

    emotion: Count
    celebrate: Count
    emotion_by_lang: dict[str, Count]
    celebrate_by_lang: dict[str, Count]
    emotion_by_label: dict[str, Count]
    latency_ms: dict[str, float]
    failed: int
    emotion_confusion: Confusion
    celebrate_yes: LabelFigures
    emotion_calibration: Calibration
    celebrate_calibration: Calibration

    def json(self) -> dict[str, Any]:
        """Return the figures as they stand in the report file."""
        return {
            "emotion": self.emotion.json(),
            "celebrate": self.celebrate.json(),
            "emotion_by_lang": {lang: count.json() for lang, count in self.emotion_by_lang.items()},
            "celebrate_by_lang": {lang: count.json() for lang, count in self.celebrate_by_lang.items()},
            "emotion_by_label": {label: count.json() for label, count in self.emotion_by_label.items()},
            "latency_ms": self.latency_ms,
            "failed": self.failed,
            "emotion_macro_f1": self.emotion_confusion.macro_f1,
            "emotion_per_label": {label: figures.json() for label, figures in self.emotion_confusion.by_label().items()},
            "emotion_confusion": self.emotion_confusion.json(),
            "celebrate_yes": self.celebrate_yes.celebrate_json(),
            "emotion_calibration": self.emotion_calibration.json(),
            "celebrate_calibration": self.celebrate_calibration.json(),
        }


def run(tagger: TaggerClient, rows: Iterable[Row], gap_ms: float) -> Iterator[Outcome]:
    """Tag the rows one after the other with a pause of `gap_ms` between them; a failed request does not end the run."""
    for index, row in enumerate(rows):
        if index:
            time.sleep(gap_ms / 1000)
        try:
            yield Outcome(row, tagger.tag(**row.texts))
        except TaggerError as error:
            yield Outcome(row, None, f"{type(error).__name__}: {error}")


def figures_of(outcomes: Sequence[Outcome]) -> Figures:
    """Return the figures of a whole run.

    In `emotion_by_label` a row is counted under the first of its acceptable labels. In the confusion counts, and in all that is made from
    them (precision, recall, support, macro-F1), an acceptable prediction counts as its own label being true: see `true_label`.
    """
    by_lang, by_label = defaultdict(list), defaultdict(list)
    for outcome in outcomes:
        by_label[outcome.row.emotions[0]].append(outcome)
        if outcome.row.lang is not None:
            by_lang[outcome.row.lang].append(outcome)
    tagged = [(outcome, outcome.tag) for outcome in outcomes if outcome.tag is not None]
    return Figures(
        emotion=_emotion(outcomes),
        celebrate=_celebrate(outcomes),
        emotion_by_lang={lang: _emotion(group) for lang, group in sorted(by_lang.items())},
        celebrate_by_lang={lang: _celebrate(group) for lang, group in sorted(by_lang.items())},
        emotion_by_label={label: _emotion(group) for label, group in sorted(by_label.items())},
        latency_ms=latencies([tag.latency_ms for _, tag in tagged]),
        failed=len(outcomes) - len(tagged),
        emotion_confusion=confusion(((each.row.emotions, each.predicted_emotion) for each in outcomes), _labels(outcomes)),
        celebrate_yes=celebrations((each.row.celebrate, each.predicted_celebrate) for each in outcomes),
        emotion_calibration=calibration((tag.confidence, outcome.emotion_right) for outcome, tag in tagged),
        celebrate_calibration=calibration((celebrate_confidence(tag), outcome.celebrate_right) for outcome, tag in tagged),
    )


def celebrate_confidence(tag: Tag) -> float:
    """Return the probability of the answer that was given: of yes, or of no."""
    return tag.celebrate_score if tag.celebrate else 1 - tag.celebrate_score


def latencies(values_ms: Sequence[float]) -> dict[str, float]:
    """Return percentiles by nearest rank and the maximum; nothing if there is no value."""
    if not values_ms:
        return {}
    ordered = sorted(values_ms)
    ranks = {f"p{percent}": ordered[math.ceil(percent / 100 * len(ordered)) - 1] for percent in PERCENTILES}
    return {**ranks, "max": ordered[-1]}


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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` whole or not at all: a reader never sees half a report."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.write("\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _emotion(outcomes: Sequence[Outcome]) -> Count:
    return Count(sum(outcome.emotion_right for outcome in outcomes), len(outcomes))


def _celebrate(outcomes: Sequence[Outcome]) -> Count:
    return Count(sum(outcome.celebrate_right for outcome in outcomes), len(outcomes))


def _labels(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the labels in the server's order, which a tag tells, and then those that only rows name."""
    told = [label for outcome in outcomes if outcome.tag is not None for label in outcome.tag.emotion_scores]
    return tuple(dict.fromkeys([*told, *(label for outcome in outcomes for label in outcome.row.emotions)]))
