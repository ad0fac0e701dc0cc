"""pika-tag eval: files that are refused, each for a reason that helps to correct it."""

from typing import Any

import pytest

from tests.client.evaluation import CHILD, PIKA, Evaluation
from tests.support.fake_triton import LABELS, FakeTriton


def row(**fields: object) -> dict[str, Any]:
    return {"user_last_message": CHILD, "pika_response": PIKA, "emotion": "happy", "celebrate": "no"} | fields


def without(name: str) -> dict[str, Any]:
    made = row()
    del made[name]
    return made


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ("7", "not a JSON object"),
        (without("user_last_message"), "user_last_message is missing"),
        (row(pika_response=""), "pika_response is blank"),
        (row(pika_last_message=[PIKA]), "pika_last_message is not a string"),
        (without("emotion"), "emotion is neither a label nor a list of labels"),
        (row(emotion=[]), "emotion is neither a label nor a list of labels"),
        (row(emotion=["happy", 3]), "emotion is neither a label nor a list of labels"),
        (without("celebrate"), 'celebrate is neither "yes" nor "no"'),
        (row(celebrate="maybe"), 'celebrate is neither "yes" nor "no"'),
        (row(celebrate=1), 'celebrate is neither "yes" nor "no"'),
        (row(celebrate=["yes"]), 'celebrate is neither "yes" nor "no"'),
        (row(id=[1]), "id is neither a string nor a number"),
        (row(lang=1), "lang is not a string"),
        (row(emotion=["happy", "joyful"]), "unknown emotion 'joyful'"),
        (row(emotion=CHILD), "unknown emotion\n"),  # a text in the wrong field is not repeated
    ],
)
def test_a_bad_row_is_named_and_nothing_is_evaluated(
    evaluation: Evaluation, server: FakeTriton, bad: dict[str, Any] | str, reason: str
) -> None:
    evaluation.write(row(), "", bad)
    status, shown, errors = evaluation.run()
    assert status == 2
    assert f"labelled.jsonl: line 3: {reason}" in errors
    assert "Nguy" not in errors
    assert shown == ""
    assert len(server.requests) <= 1
    assert not evaluation.out.exists()


def test_all_bad_rows_are_named_at_once_up_to_a_limit(evaluation: Evaluation) -> None:
    evaluation.write(*["{"] * 25)
    _, _, errors = evaluation.run()
    assert errors.count("not JSON") == 20
    assert "and 5 more" in errors


def test_unknown_emotions_come_with_those_that_exist(evaluation: Evaluation) -> None:
    evaluation.write(row(emotion="joyful"), row(emotion="gloomy"))
    _, _, errors = evaluation.run()
    assert "line 1: unknown emotion 'joyful'" in errors
    assert "line 2: unknown emotion 'gloomy'" in errors
    assert f"the server's labels are {', '.join(LABELS)}" in errors


@pytest.mark.parametrize("content", [(), ("", "  ")])
def test_an_empty_file_is_refused(evaluation: Evaluation, content: tuple[str, ...]) -> None:
    evaluation.write(*content)
    status, _, errors = evaluation.run()
    assert (status, errors) == (2, f"pika-tag: {evaluation.file}: no dialogue in it\n")


def test_a_missing_file_is_refused(evaluation: Evaluation) -> None:
    evaluation.file.unlink()
    status, _, errors = evaluation.run()
    assert (status, errors) == (2, f"pika-tag: {evaluation.file}: No such file or directory\n")


@pytest.mark.parametrize("where", ["nowhere/report.json", ".", "labelled.jsonl"])
def test_a_report_that_could_not_be_written_is_refused_before_the_run(evaluation: Evaluation, server: FakeTriton, where: str) -> None:
    before = evaluation.file.read_bytes()
    status, _, errors = evaluation.run("--json", str(evaluation.file.parent / where))
    assert status == 2
    assert "cannot be written" in errors
    assert server.requests == []
    assert evaluation.file.read_bytes() == before


def test_a_line_separator_inside_a_text_does_not_split_the_row(evaluation: Evaluation) -> None:
    evaluation.write(row(user_last_message="calm\u2028no", emotion="calm"))
    assert evaluation.run("--min-emotion", "1")[0] == 0
