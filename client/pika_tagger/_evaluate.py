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
        celebrate_score = self.tag.celebrate_score if self.tag.celebrate else 1 - self.tag.celebrate_score
        return max(0.0 if self.emotion_right else self.tag.confidence, 0.0 if self.celebrate_right else celebrate_score)


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
    """Return the figures of a whole run; a label is counted under the first of the acceptable ones."""
    by_lang, by_label = defaultdict(list), defaultdict(list)
    for outcome in outcomes:
        by_label[outcome.row.emotions[0]].append(outcome)
        if outcome.row.lang is not None:
            by_lang[outcome.row.lang].append(outcome)
    return Figures(
        emotion=_emotion(outcomes),
        celebrate=_celebrate(outcomes),
        emotion_by_lang={lang: _emotion(group) for lang, group in sorted(by_lang.items())},
        celebrate_by_lang={lang: _celebrate(group) for lang, group in sorted(by_lang.items())},
        emotion_by_label={label: _emotion(group) for label, group in sorted(by_label.items())},
        latency_ms=latencies([outcome.tag.latency_ms for outcome in outcomes if outcome.tag is not None]),
        failed=sum(outcome.tag is None for outcome in outcomes),
    )


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
