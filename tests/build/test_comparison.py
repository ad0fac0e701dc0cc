"""Runs side by side: what stands in the table, and what quantization changed."""

import pytest

from build.comparison import AWQ, UNQUANTIZED, Difference, Run, differences, lost_too_much, summary, summary_json
from pika_tagger import Tag
from pika_tagger._labelled import Row
from pika_tagger._outcomes import Outcome

CALM = Row(1, "a", {"user_last_message": "x", "pika_response": "y"}, ("calm", "happy"), True, "en")


def outcome(emotion: str | None, yes: float = 0.9, latency_ms: float = 8.0, sure: float = 0.7) -> Outcome:
    if emotion is None:
        return Outcome(CALM, None, "ServerError: broken")
    scores = {name: sure if name == emotion else (1 - sure) / 2 for name in ("calm", "happy", "sad")}
    return Outcome(CALM, Tag(emotion, yes >= 0.5, scores, yes, latency_ms))


CODES = Run("codes", AWQ, (outcome("calm"), outcome("sad"), outcome("happy", yes=0.2), outcome("calm")))
FULL = Run("codes", UNQUANTIZED, (outcome("calm"), outcome("calm"), outcome("calm"), outcome("sad", latency_ms=99.0)))


def cells(line: str) -> list[str]:
    return line.split()


def test_differences_tell_accuracy_lost_and_answers_changed() -> None:
    changed = differences(CODES, FULL)
    assert changed["emotion"] == Difference(loss=0.0, changed_rows=3, rows=4)  # one acceptable label for another changes no accuracy
    assert changed["celebrate"] == Difference(loss=0.25, changed_rows=1, rows=4)
    assert str(changed["celebrate"]) == "-25.0 points, 1 of 4 answers changed"
    assert str(differences(FULL, CODES)["celebrate"]) == "+25.0 points, 1 of 4 answers changed"


def test_figures_of_a_run_are_counted_once() -> None:
    run = Run("codes", AWQ, CODES.outcomes)
    assert run.figures is run.figures
    assert run == CODES


def test_a_failed_request_is_a_changed_answer() -> None:
    changed = differences(Run("codes", AWQ, (outcome(None),)), Run("codes", UNQUANTIZED, (outcome("calm"),)))
    assert changed == {"emotion": Difference(1.0, 1, 1), "celebrate": Difference(1.0, 1, 1)}


@pytest.mark.parametrize(("allowed", "sentences"), [(None, 0), (0.01, 0), (0.0099, 1), (0.0, 1)])
def test_a_loss_is_too_much_only_above_the_limit(allowed: float | None, sentences: int) -> None:
    rows = 100
    awq = Run("codes", AWQ, (outcome("sad"), *[outcome("calm")] * (rows - 1)))
    full = Run("codes", UNQUANTIZED, (outcome("calm"),) * rows)
    found = list(lost_too_much(differences(awq, full), allowed))
    assert len(found) == sentences
    assert all(sentence.startswith("emotion: AWQ lost 0.0100 of accuracy") for sentence in found)


def test_awq_may_be_better() -> None:
    assert list(lost_too_much(differences(FULL, CODES), 0.0)) == []


def test_the_table_has_a_row_for_each_run() -> None:
    lines = list(summary([CODES, FULL], differences(CODES, FULL)))
    assert " ".join(cells(lines[0])) == (
        "strategy weights emotion celebrate macro-F1 false missed ECE emotion ECE celebrate p50 ms p95 ms failed"
    )
    assert " ".join(cells(lines[2])) == "codes AWQ 75.0% 75.0% 0.600 0 1 5.0% 27.5% 8.0 8.0 0"
    assert cells(lines[3])[:2] == ["codes", "unquantized"]
    assert cells(lines[3])[-3:] == ["-", "-", "0"]  # its latency is not that of a server
    assert lines[-3:] == [
        "\nAWQ against unquantized weights, both asked for codes",
        "  emotion    +0.0 points, 3 of 4 answers changed",
        "  celebrate  -25.0 points, 1 of 4 answers changed",
    ]
    assert max(map(len, lines)) <= 140


def test_a_refused_strategy_is_a_row_without_figures_and_says_why() -> None:
    lines = list(summary([CODES, Run("words", AWQ, (), "unexpected input"), FULL], {}))
    assert cells(lines[3]) == ["words", "AWQ", *["-"] * 10]
    assert " words was refused: unexpected input" in lines


def test_failed_requests_are_counted_and_the_first_error_is_told() -> None:
    lines = list(summary([Run("json", AWQ, (outcome("calm"), outcome(None)))], {}))
    assert cells(lines[2])[-1] == "1"
    assert " json AWQ: 1 failed, the first with ServerError: broken" in lines


def test_a_strategy_without_probabilities_has_no_calibration_error() -> None:
    lines = list(summary([Run("json", AWQ, (outcome("calm", yes=1.0, sure=1.0),))], {}))
    assert cells(lines[2])[7:9] == ["-", "-"]


def test_the_report_file_holds_every_run_by_name() -> None:
    content = summary_json([CODES, Run("words", AWQ, (), "unexpected input"), FULL], differences(CODES, FULL))
    assert list(content["runs"]) == ["codes", "words", "unquantized"]
    assert content["runs"]["codes"]["figures"]["emotion"] == {"accuracy": 0.75, "right": 3, "total": 4}
    assert [row["emotion_name"] for row in content["runs"]["unquantized"]["predictions"]] == ["calm", "calm", "calm", "sad"]
    assert content["runs"]["words"] == {"strategy": "words", "weights": "AWQ", "refusal": "unexpected input"}
    assert content["awq_against_unquantized"]["celebrate"] == {"loss": 0.25, "changed_rows": 1, "rows": 4}
