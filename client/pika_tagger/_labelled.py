"""Labelled dialogues: JSON lines in, checked rows out.

A file is read whole and checked whole before anything is sent, so that an evaluation never stops half-way over a typing error. What the
labels mean is in docs/labelling.md; which of them exist is known by the server alone.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pika_tagger._types import Dialogue

T = TypeVar("T")

TEXT_FIELDS = ("user_last_message", "pika_response", "pika_last_message")
MOST_SHOWN = 20
"""As many lines about one file are read by somebody; the rest is counted."""
_LABEL_LIKE = re.compile(r"\w{1,30}")
_YES_NO = {"yes": True, "no": False, True: True, False: False}


class BadFileError(Exception):
    """A file cannot be used; every problem is one line of text."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class Row:
    """One labelled dialogue."""

    line: int
    id: str | int | None
    texts: dict[str, str]
    emotions: tuple[str, ...]
    celebrate: bool
    lang: str | None


@dataclass(frozen=True)
class Labelled:
    """A checked file."""

    path: Path
    sha256: str
    rows: tuple[Row, ...]

    def check_labels(self, labels: tuple[str, ...]) -> None:
        """Raise BadFileError if a row uses an emotion that is none of `labels`."""
        problems = [
            f"line {row.line}: unknown emotion{_shown(emotion)}" for row in self.rows for emotion in row.emotions if emotion not in labels
        ]
        if problems:
            raise BadFileError([*problems, f"the server's labels are {', '.join(labels)}"])


def load(path: Path) -> Labelled:
    """Return the rows of `path`; blank lines are skipped.

    Raises:
        BadFileError: The file cannot be read, is empty, or has bad rows, all of which are named.
    """
    content, rows = _read(path, _row)
    return Labelled(path, hashlib.sha256(content).hexdigest(), tuple(rows))


def load_dialogues(path: Path) -> list[Dialogue]:
    """Return the dialogues of `path`, whether they are labelled or not; raises as `load`."""
    return _read(path, lambda _, fields: cast(Dialogue, dialogue_texts(fields)))[1]


def _read(path: Path, make: Callable[[int, dict[str, Any]], T]) -> tuple[bytes, list[T]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadFileError([error.strerror or type(error).__name__]) from None
    made, problems = [], []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                made.append(make(number, parse_object(line)))
            except ValueError as error:
                problems.append(f"line {number}: {error}")
    if not made and not problems:
        problems.append("no dialogue in it")
    if problems:
        raise BadFileError(problems)
    return content, made


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object in `line`; the ValueError for anything else does not repeat the line."""
    try:
        value = json.loads(line.rstrip().decode("utf-8-sig"))  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON (at column {error.colno})") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def dialogue_texts(fields: dict[str, Any]) -> dict[str, str]:
    """Return the texts of a dialogue by field name, the optional one only if it is given."""
    texts = {name: fields[name] for name in TEXT_FIELDS if fields.get(name) is not None}
    for name in TEXT_FIELDS[:2]:
        if name not in texts:
            raise ValueError(f"{name} is missing")
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} is not a string")
    if not texts["pika_response"].strip():
        raise ValueError("pika_response is blank")
    return texts


def yes_or_no(value: object, name: str) -> bool:
    """Return what the field of that name means, which is "yes", "no", or a boolean; ValueError for anything else, 1 and 0 too."""
    if not isinstance(value, (str, bool)) or value not in _YES_NO:
        raise ValueError(f'{name} is neither "yes" nor "no"')
    return _YES_NO[value]


def shortened(problems: Sequence[str]) -> list[str]:
    """Return the first `MOST_SHOWN` problems, and how many more there are."""
    more = len(problems) - MOST_SHOWN
    return [*problems[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _shown(emotion: str) -> str:
    """Return an unknown emotion for a message, unless it looks like what somebody said, put into the wrong field."""
    return f" {emotion!r}" if _LABEL_LIKE.fullmatch(emotion) else ""


def _row(number: int, fields: dict[str, Any]) -> Row:
    emotions = fields.get("emotion")
    emotions = [emotions] if isinstance(emotions, str) else emotions
    if not isinstance(emotions, list) or not emotions or not all(isinstance(emotion, str) for emotion in emotions):
        raise ValueError("emotion is neither a label nor a list of labels")
    celebrate = yes_or_no(fields.get("celebrate"), "celebrate")
    row_id, lang = fields.get("id"), fields.get("lang")
    if not isinstance(row_id, (str, int, type(None))):
        raise ValueError("id is neither a string nor a number")
    if not isinstance(lang, (str, type(None))):
        raise ValueError("lang is not a string")
    return Row(number, row_id, dialogue_texts(fields), tuple(emotions), celebrate, lang)
