"""A corpus line that breaks the format is refused with its file and line."""

import re
from pathlib import Path

import pytest

from build.errors import SourceError
from build.training import frames
from build.training.dialogues import Corpus
from tests.support import corpora

GOOD = "tells |  | fine\n"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("pika_happy_vi", GOOD + "tells | no third field\n", "happy.vi.txt:2: 2 fields instead of 3"),
        ("pika_happy_vi", "tells |  | one | more\n", "happy.vi.txt:1: 4 fields instead of 3"),
        ("pika_happy_vi", "# comment\n\ntells |  | \n", "happy.vi.txt:3: "),
        ("pika_sad_en", "tels |  | text\n", "sad.en.txt:1: kinds 'tels'"),
        ("pika_sad_en", " |  | text\n", "sad.en.txt:1: kinds ''"),
        ("pika_sad_en", "right |  | text\n", "sad.en.txt:1: kinds 'right'"),
        ("pika_sad_en", "tells | angry | text\n", "sad.en.txt:1: emotions 'angry'"),
        ("pika_sad_en", "tells |  | a {robot}\n", "sad.en.txt:1: slots ['robot']"),
        ("pika_sad_en", "tells,confirm |  | {a}!\n", "sad.en.txt:1: fact slots in a line of kinds tells, confirm"),
        ("child_vi", "confirm | text\n", "child.vi.txt:1: kind 'confirm'"),
        ("child_vi", "tells | {fact}\n", "child.vi.txt:1: fact slots in a line of kinds tells"),
        ("before_en", "tells\n", "before.en.txt:1: 1 fields instead of 2"),
        ("slots_en", "robot | a; b\n", "slots.en.txt:1: slot 'robot'"),
        ("facts", "\n", "facts.jsonl:1: not a fact"),
        ("facts", '{"id": "x", "vi": {"q": "?"}}\n', "facts.jsonl:1: not a fact (KeyError('wrong'))"),
        ("facts", "not json\n", "facts.jsonl:1: not a fact (JSONDecodeError"),
    ],
)
def test_a_broken_line_is_refused_by_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, words: str
) -> None:
    monkeypatch.setattr(frames, "FOLDER", corpora.write(tmp_path, corpora.files(**{file: text})))
    with pytest.raises(SourceError, match=re.escape(words)):
        Corpus(corpora.EMOTIONS)


@pytest.mark.parametrize("name", sorted(corpora.files()))
def test_a_missing_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(frames, "FOLDER", corpora.write(tmp_path, corpora.files()))
    (tmp_path / name).unlink()
    with pytest.raises(SourceError, match=re.escape(f"corpus file {tmp_path / name} is missing")):
        Corpus(corpora.EMOTIONS)
