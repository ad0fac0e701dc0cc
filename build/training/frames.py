"""The corpus files, parsed and checked: frames, slots and facts, each assigned to a split.

The format is in `corpus/README.md`. A frame belongs to exactly one split, decided by a hash of its text, so held-out frames never occur in
training, and adding frames moves no other. What is made from frames is in `dialogues.py`.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from build.errors import SourceError

FOLDER = Path(__file__).parent / "corpus"
LANGUAGES = ("vi", "en")
SPLITS = ("train", "validation", "test")
KINDS = frozenset(
    [
        "right",
        "wrong",
        "opinion",
        "idea",
        "feel_good",
        "feel_bad",
        "good_deed",
        "risk",
        "asks",
        "tells",
        "wonder",
        "greets",
        "bedtime",
        "plays",
        "stuck",
        "effort",
        "event",
    ]
)
PIKA_KINDS = (KINDS - {"right"}) | {"confirm", "pass"}
FACT_SLOTS = frozenset({"q", "a", "fact", "Fact", "wrong"})
WORD_SLOTS = frozenset({"thing", "animal", "food", "activity", "person", "place", "color", "name"})

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Frame:
    """A sentence with slots. `emotion` and `also` are empty for what is not a line of Pika's."""

    text: str
    lang: str
    kinds: tuple[str, ...]
    split: Split
    emotion: str = ""
    also: tuple[str, ...] = ()

    @cached_property
    def slots(self) -> frozenset[str]:
        """Names of the slots in the text."""
        return slots_of(self.text)


@dataclass(frozen=True)
class Fact:
    """A question with its answer, in one language."""

    question: str
    answer: str
    statement: str
    wrong: tuple[str, ...]
    """Wrong answers, short ones and whole statements."""
    lang: str
    split: Split


@cache
def slots_of(text: str) -> frozenset[str]:
    """Names of the slots in a text."""
    return frozenset(re.findall(r"\{(\w+)\}", text))


def split_of(text: str) -> Split:
    """85 % training, 5 % validation, 10 % test, by hash of the text alone."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 85 else "validation" if bucket < 90 else "test"


def pika_frames(emotions: tuple[str, ...]) -> Iterator[Frame]:
    """Pika's lines, for each emotion and language.

    Raises:
        SourceError: a file is missing or a line breaks the format; the message names file and line.
    """
    for emotion in emotions:
        for lang in LANGUAGES:
            path = FOLDER / "pika" / f"{emotion}.{lang}.txt"
            for where, (kinds, also, text) in _rows(path, 3):
                frame = Frame(text, lang, _names(kinds), split_of(text), emotion, _names(also))
                _require(where, set(frame.kinds) <= PIKA_KINDS and frame.kinds != (), f"kinds {kinds!r}")
                _require(where, set(frame.also) <= set(emotions), f"emotions {also!r}")
                _check_slots(where, frame, fact_kinds={"confirm", "pass", "wrong", "asks"})
                yield frame


def other_frames(name: str) -> Iterator[Frame]:
    """Frames of `child.<lang>.txt` or `before.<lang>.txt`. Raises as `pika_frames`."""
    for lang in LANGUAGES:
        for where, (kind, text) in _rows(FOLDER / f"{name}.{lang}.txt", 2):
            frame = Frame(text, lang, (kind,), split_of(text))
            _require(where, kind in KINDS, f"kind {kind!r}")
            _check_slots(where, frame, fact_kinds={"right", "wrong", "asks"})
            yield frame


def slot_words() -> dict[tuple[str, str], list[str]]:
    """(slot, language) -> words. Raises as `pika_frames`."""
    words = {}
    for lang in LANGUAGES:
        for where, (slot, listing) in _rows(FOLDER / f"slots.{lang}.txt", 2):
            _require(where, slot in WORD_SLOTS, f"slot {slot!r}")
            words[slot, lang] = [word.strip() for word in listing.split(";") if word.strip()]
    return words


def facts() -> Iterator[Fact]:
    """The fact bank. Raises as `pika_frames`."""
    path = FOLDER / "facts.jsonl"
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
            for lang in LANGUAGES:
                if lang in row:
                    part = row[lang]
                    wrong = tuple(part["wrong"])
                    false_statements = tuple(part["fact"].replace(part["a"], w) for w in wrong if part["a"] in part["fact"])
                    yield Fact(part["q"], part["a"], part["fact"], wrong + false_statements, lang, split_of(row["id"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path.name}:{number}: not a fact ({error!r})") from error


def written_rows() -> Iterator[dict[str, Any]]:
    """The whole dialogues of `dialogues/*.jsonl`, as JSON objects. Raises as `pika_frames`."""
    for path in sorted((FOLDER / "dialogues").glob("*.jsonl")):
        for number, line in enumerate(_text(path).splitlines(), 1):
            try:
                yield dict(json.loads(line))
            except ValueError as error:
                raise SourceError(f"{path.name}:{number}: not a JSON object ({error})") from error


def _rows(path: Path, fields: int) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            row = [field.strip() for field in line.split(" | ")]
            where = f"{path.name}:{number}"
            _require(where, len(row) == fields and row[-1] != "", f"{len(row)} fields instead of {fields}")
            yield where, row


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SourceError(f"corpus file {path} is missing") from None


def _names(field: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in field.split(",") if name.strip())


def _require(where: str, condition: bool, what: str) -> None:
    if not condition:
        raise SourceError(f"{where}: {what}; see build/training/corpus/README.md")


def _check_slots(where: str, frame: Frame, fact_kinds: set[str]) -> None:
    _require(where, frame.slots <= FACT_SLOTS | WORD_SLOTS, f"slots {sorted(frame.slots)}")
    if frame.slots & FACT_SLOTS:
        _require(where, set(frame.kinds) <= fact_kinds, f"fact slots in a line of kinds {', '.join(frame.kinds)}")
