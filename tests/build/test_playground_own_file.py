"""The file of marked lines: one row a dialogue, others' lines untouched, nothing half-written."""

import json
from pathlib import Path
from typing import Any

import pytest

from build.errors import SourceError
from build.playground.own_file import save
from pika_tagger._labelled import load


def row(child: str, emotion: str = "happy", **more: str) -> dict[str, Any]:
    return {"user_last_message": child, "pika_response": "Ừ!", **more, "emotion": [emotion], "celebrate": "no"}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_are_added(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    assert [save(path, row("một")), save(path, row("hai"))] == [1, 2]
    assert rows(path) == [row("một"), row("hai")]
    assert "một" in path.read_text(encoding="utf-8")
    assert len(load(path).rows) == 2


def test_a_dialogue_that_is_marked_again_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    for each in (row("một", "sad"), row("hai"), row("một", pika_last_message="Mấy?")):
        save(path, each)
    assert save(path, row("một", "proud")) == 3
    assert rows(path) == [row("hai"), row("một", pika_last_message="Mấy?"), row("một", "proud")]


def test_lines_of_others_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    foreign = b'{"id": 7,  "note": "mine", "user_last_message": "a", "pika_response": "b", "emotion": "sad", "celebrate": true}'
    path.write_bytes(foreign)  # without a line break at the end
    assert save(path, row("một")) == 2
    assert path.read_bytes().splitlines()[0] == foreign


@pytest.mark.parametrize("content", [b'{"user_last_message": "secret"}\n', b"secret words\n", b"\xff\n"])
def test_a_file_that_eval_would_refuse_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"marked\.jsonl is not a file of labelled dialogues, mend it first: line 1: ") as raised:
        save(path, row("một"))
    assert "secret" not in str(raised.value)
    assert path.read_bytes() == content


def test_an_empty_file_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_bytes(b"\n")
    assert save(path, row("một")) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere/marked\.jsonl cannot be read or written"):
        save(tmp_path / "nowhere" / "marked.jsonl", row("một"))
