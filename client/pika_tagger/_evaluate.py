"""Figures over a whole run: accuracy, agreement by label, celebrations, calibration, latency.

Here is the arithmetic, and what the report file holds. No text of a dialogue enters a figure.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pika_tagger._agreement import Confusion, LabelFigures, celebrations, confusion
from pika_tagger._calibration import Calibration, calibration
from pika_tagger._outcomes import Outcome, celebrate_confidence
from pika_tagger._thresholds import Thresholds, thresholds
from pika_tagger._types import Tag

PERCENTILES = (50, 95, 99)


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
    celebrate_thresholds: Thresholds
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
            "celebrate_thresholds": self.celebrate_thresholds.json(),
            "emotion_calibration": self.emotion_calibration.json(),
            "celebrate_calibration": self.celebrate_calibration.json(),
        }


def figures_of(outcomes: Sequence[Outcome]) -> Figures:
    """Return the figures of a whole run.

    In `emotion_by_label` a row is counted under the first of its acceptable labels. In the confusion counts, and in all that is made from
    them (precision, recall, support, macro-F1), an acceptable prediction counts as its own label being true: see `true_label`. Calibration
    is empty if no answer of the run has a probability, as with a strategy that generates text.
    """
    by_lang, by_label = defaultdict(list), defaultdict(list)
    for outcome in outcomes:
        by_label[outcome.row.emotions[0]].append(outcome)
        if outcome.row.lang is not None:
            by_lang[outcome.row.lang].append(outcome)
    tagged = [(outcome, outcome.tag) for outcome in outcomes if outcome.tag is not None]
    sure = tagged if any(_has_probabilities(tag) for _, tag in tagged) else []
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
        celebrate_thresholds=thresholds((each.row.celebrate, each.predicted_celebrate, each.celebrate_score) for each in outcomes),
        emotion_calibration=calibration((tag.confidence, outcome.emotion_right) for outcome, tag in sure),
        celebrate_calibration=calibration((celebrate_confidence(tag), outcome.celebrate_right) for outcome, tag in sure),
    )


def latencies(values_ms: Sequence[float], percentiles: Sequence[int] = PERCENTILES) -> dict[str, float]:
    """Return percentiles by nearest rank and the maximum; nothing if there is no value."""
    if not values_ms:
        return {}
    ordered = sorted(values_ms)
    ranks = {f"p{percent}": ordered[math.ceil(percent / 100 * len(ordered)) - 1] for percent in percentiles}
    return {**ranks, "max": ordered[-1]}


def _emotion(outcomes: Sequence[Outcome]) -> Count:
    return Count(sum(outcome.emotion_right for outcome in outcomes), len(outcomes))


def _celebrate(outcomes: Sequence[Outcome]) -> Count:
    return Count(sum(outcome.celebrate_right for outcome in outcomes), len(outcomes))


def _has_probabilities(tag: Tag) -> bool:
    return any(0 < score < 1 for score in (tag.celebrate_score, *tag.emotion_scores.values()))


def _labels(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the labels in the server's order, which a tag tells, and then those that only rows name."""
    told = [label for outcome in outcomes if outcome.tag is not None for label in outcome.tag.emotion_scores]
    return tuple(dict.fromkeys([*told, *(label for outcome in outcomes for label in outcome.row.emotions)]))
