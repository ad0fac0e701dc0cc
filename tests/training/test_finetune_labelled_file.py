"""Own labelled lines: taken as they are meant, or refused all together, by file and line and without a word of dialogue."""

import json
from pathlib import Path
from typing import Any

import pytest

from build import ROOT
from build.errors import SourceError
from build.training import labelled_file
from one_pass import Dialogue, Prompt
from tests.support import tokenizers_for_tests

CHILD, PIKA = "Nguyệt thực", "Lạ lùng quá"
TASK = tokenizers_for_tests.pika_mood()


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    return Prompt(TASK, tokenizers_for_tests.codec("sentence_piece"), tokens_per_block=32)


def row(**fields: Any) -> dict[str, Any]:
    return {"user_last_message": CHILD, "pika_response": PIKA, "emotion": ["sad"], "celebrate": "no"} | fields


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in row().items() if key != name}


def written(folder: Path, *lines: dict[str, Any] | str | bytes) -> Path:
    path = folder / "own.jsonl"
    encoded = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(encoded) + (b"\n" if lines else b""))
    return path


def refusal(path: Path, prompt: Prompt) -> str:
    with pytest.raises(SourceError) as caught:
        labelled_file.read(path, prompt)
    message = str(caught.value)
    assert "Nguy" not in message
    assert "Lạ" not in message
    return message


def test_a_line_is_read_as_it_is_meant(tmp_path: Path, prompt: Prompt) -> None:
    path = written(
        tmp_path,
        row(emotion=["proud", "happy"], celebrate="yes", pika_last_message="?", lang="vi", id="x-1"),
        row(emotion="worry", user_last_message="", pika_last_message=None),
        row(celebrate=True),
    )
    first, second, third = labelled_file.read(path, prompt)
    assert (first.dialogue, first.emotions, first.celebrate, first.lang) == (Dialogue(CHILD, PIKA, "?"), ("proud", "happy"), True, "vi")
    assert (second.dialogue, second.emotions, second.celebrate, second.lang) == (Dialogue("", PIKA), ("worry",), False, "")
    assert third.celebrate


def test_the_evaluation_file_has_the_right_form(prompt: Prompt) -> None:
    path = ROOT / "tests" / "data" / "eval_dialogues.jsonl"
    assert len(labelled_file.read(path, prompt)) == len(path.read_text(encoding="utf-8").splitlines())


def test_a_mark_of_an_editor_before_the_first_line_does_no_harm(tmp_path: Path, prompt: Prompt) -> None:
    assert len(labelled_file.read(written(tmp_path, b"\xef\xbb\xbf" + json.dumps(row()).encode()), prompt)) == 1


def test_a_line_separator_inside_a_text_does_not_split_the_line(tmp_path: Path, prompt: Prompt) -> None:
    (example,) = labelled_file.read(written(tmp_path, row(pika_response="a\u2028b")), prompt)
    assert example.dialogue.pika_response == "a\u2028b"


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("", "the line is blank"),
        ("   ", "the line is blank"),
        ("{" + CHILD, "not JSON (at column 2)"),
        (b'{"pika_response": "\xff"}', "not UTF-8"),
        ("7", "not a JSON object"),
        ("[]", "not a JSON object"),
        (without("user_last_message"), "user_last_message is missing"),
        (without("pika_response"), "pika_response is missing"),
        (row(user_last_message=None), "user_last_message is not a text"),
        (row(pika_response=[PIKA]), "pika_response is not a text"),
        (row(pika_last_message=3), "pika_last_message is not a text"),
        (row(pika_response=" "), "the tagger would refuse it: pika_response is blank: there is nothing to tag"),
        (row(pika_response=PIKA * 300), "the tagger would refuse it: pika_response has "),
        (without("emotion"), "emotion is neither a label nor a list of labels"),
        (row(emotion=[]), "emotion is neither a label nor a list of labels"),
        (row(emotion={"sad": 1}), "emotion is neither a label nor a list of labels"),
        (row(emotion=["sad", "joyful"]), "the emotion joyful is unknown; there are happy, calm, "),
        (row(emotion="Sad"), "the emotion Sad is unknown; there are happy, calm, "),
        (row(emotion=PIKA), "the emotion is unknown; there are happy, calm, "),
        (row(emotion=["sad", 3]), "the emotion is unknown; there are happy, calm, "),
        (row(emotion=["sad", "sad"]), "emotion names a label twice"),
        (without("celebrate"), 'celebrate is neither "yes" nor "no"'),
        (row(celebrate="Yes"), 'celebrate is neither "yes" nor "no"'),
        (row(celebrate=PIKA), 'celebrate is neither "yes" nor "no"'),
        (row(celebrate=["yes"]), 'celebrate is neither "yes" nor "no"'),
        (row(celebrate=1), 'celebrate is neither "yes" nor "no"'),
        (row(lang=1), "lang is not a text"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_number(tmp_path: Path, prompt: Prompt, bad: dict[str, Any] | str | bytes, problem: str) -> None:
    path = written(tmp_path, row(), bad, row())
    head, line = refusal(path, prompt).splitlines()
    assert head == "these lines are not labelled dialogues:"
    assert line.startswith(f"{path}:2: {problem}")


def test_all_bad_lines_are_named_at_once_up_to_a_limit(tmp_path: Path, prompt: Prompt) -> None:
    path = written(tmp_path, *(["{"] * 23), row())
    lines = refusal(path, prompt).splitlines()
    assert [line.split(" ")[0] for line in lines[1:21]] == [f"{path}:{number}:" for number in range(1, 21)]
    assert lines[21:] == ["and 3 more"]


def test_a_file_that_is_empty_or_not_there_is_refused(tmp_path: Path, prompt: Prompt) -> None:
    path = written(tmp_path)
    assert refusal(path, prompt) == f"{path} is empty: give one labelled dialogue a line, as docs/finetune.md shows"
    path.unlink()
    assert refusal(path, prompt) == f"{path} cannot be read: No such file or directory"
