"""pika-tag eval: figures, thresholds, and what is written."""

import hashlib
import itertools
from typing import Any

import pytest

from pika_tagger import __version__, _files
from tests.client.evaluation import PIKA, Evaluation
from tests.support.fake_triton import LABELS, FakeTriton, Reply, Request, free_port


def test_figures_are_counted_in_all_and_by_language_and_first_label(evaluation: Evaluation) -> None:
    assert evaluation.run()[0] == 0
    figures = evaluation.report["figures"]
    assert figures["emotion"] == {"accuracy": 0.75, "right": 3, "total": 4}
    assert figures["celebrate"] == {"accuracy": 0.75, "right": 3, "total": 4}
    assert {lang: count["right"] for lang, count in figures["emotion_by_lang"].items()} == {"en": 1, "vi": 2}
    assert {lang: count["right"] for lang, count in figures["celebrate_by_lang"].items()} == {"en": 1, "vi": 2}
    assert {label: (count["right"], count["total"]) for label, count in figures["emotion_by_label"].items()} == {
        "calm": (1, 1),
        "happy": (1, 2),
        "thats_right": (1, 1),
    }
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"] <= figures["latency_ms"]["max"]
    assert figures["failed"] == 0


def test_settings_say_how_the_figures_came_about(evaluation: Evaluation, server: FakeTriton) -> None:
    evaluation.run("--gap-ms", "1", "--min-emotion", "0.5", "--strategy", "words")
    assert evaluation.report["settings"] == {
        "url": server.url,
        "file": str(evaluation.file),
        "file_sha256": hashlib.sha256(evaluation.file.read_bytes()).hexdigest(),
        "client_version": __version__,
        "strategy": "words",
        "gap_ms": 1.0,
        "min_emotion": 0.5,
        "min_celebrate": None,
        "min_macro_f1": None,
        "max_ece": None,
    }


def test_predictions_hold_every_row_and_no_dialogue(evaluation: Evaluation) -> None:
    evaluation.run()
    predictions = evaluation.report["predictions"]
    assert [(row["line"], row["id"], row["emotion_name"], row["celebrate"]) for row in predictions] == [
        (1, "a", "happy", "no"),
        (2, "b", "proud", "yes"),
        (3, "c", "sad", "no"),
        (4, "d", "calm", "yes"),
    ]
    assert [(row["emotion_right"], row["celebrate_right"]) for row in predictions] == [
        (True, True),
        (True, True),
        (False, True),
        (True, False),
    ]
    assert predictions[0]["emotion_scores"]["happy"] == 0.75
    assert list(predictions[0]["emotion_scores"]) == list(LABELS)
    assert predictions[0]["celebrate_score"] == 0.125
    assert predictions[0]["error"] is None
    assert PIKA not in evaluation.out.read_text(encoding="utf-8")


def test_the_screen_shows_figures_and_the_worst_mistakes_by_row(evaluation: Evaluation) -> None:
    _, shown, _ = evaluation.run()
    assert "emotion      75.0%  3 / 4" in shown
    assert "celebrate    75.0%  3 / 4" in shown
    assert shown.startswith("4 dialogues, strategy as the server is set, 0 ms between requests\n")
    assert "latency in ms: p50 " in shown
    assert shown.index("line 4 (d): celebrate yes 88%, wanted no") < shown.index("line 3 (c): sad 75%, wanted happy")
    assert PIKA not in shown


def test_a_mistaken_no_is_shown_with_how_sure_the_tagger_was_of_it(evaluation: Evaluation) -> None:
    evaluation.write({"user_last_message": "calm no", "pika_response": PIKA, "emotion": "calm", "celebrate": "yes"})
    assert "line 1: celebrate no 88%, wanted yes" in evaluation.run()[1]


def test_the_dialogue_is_shown_on_demand_only(evaluation: Evaluation) -> None:
    assert PIKA in evaluation.run("--show-text")[1]


def test_rows_without_language_give_no_table_of_languages(evaluation: Evaluation) -> None:
    evaluation.write({"user_last_message": "calm", "pika_response": PIKA, "emotion": "calm", "celebrate": "no"})
    status, shown, _ = evaluation.run()
    assert status == 0
    assert "language" not in shown
    assert "mistakes" not in shown


@pytest.mark.parametrize(
    ("flags", "status", "complaint"),
    [
        (("--min-emotion", "0.75", "--min-celebrate", "0.75"), 0, ""),
        (("--min-emotion", "0.76"), 1, "emotion accuracy 0.7500 is below the wanted 0.76"),
        (("--min-celebrate", "0.95"), 1, "celebrate accuracy 0.7500 is below the wanted 0.95"),
        (("--min-macro-f1", "0.66"), 0, ""),
        (("--min-macro-f1", "0.67"), 1, "emotion macro-F1 0.6667 is below the wanted 0.67"),
        (("--max-ece", "0.125"), 0, ""),  # emotion 0, celebrate 0.125
        (("--max-ece", "0.12"), 1, "celebrate calibration error 0.1250 is above the wanted 0.12"),
    ],
)
def test_a_missed_limit_is_status_1(evaluation: Evaluation, flags: tuple[str, ...], status: int, complaint: str) -> None:
    ended, _, errors = evaluation.run(*flags)
    assert ended == status
    assert complaint in errors
    assert evaluation.out.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ("--min-emotion", "95"),
        ("--min-celebrate", "-1"),
        ("--min-macro-f1", "2"),
        ("--max-ece", "8"),
        ("--gap-ms", "-1"),
        ("--gap-ms", "soon"),
        ("--strategy", "guess"),
    ],
)
def test_a_flag_out_of_range_is_refused(evaluation: Evaluation, flags: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        evaluation.run(*flags)
    assert ended.value.code == 2


def test_a_failed_request_counts_as_wrong_and_the_run_goes_on(evaluation: Evaluation, server: FakeTriton) -> None:
    quoting = f"cannot tag {PIKA}"
    answer = server.reply

    def fail_in_the_middle(request: Request) -> Any:
        if request.texts["user_last_message"] == "proud yes":
            server.fail_with("INTERNAL", quoting, times=1)
        return answer(request)

    server.reply = fail_in_the_middle
    status, shown, errors = evaluation.run()
    assert status == 1
    assert "1 of 4 requests failed" in errors
    assert "pika-tag: line 3: ServerError: " in errors
    assert "line 3 (c): request failed" in shown
    assert evaluation.report["figures"]["failed"] == 1
    assert evaluation.report["predictions"][2]["emotion_name"] is None
    assert evaluation.report["predictions"][2]["error"].startswith("ServerError: ")
    assert PIKA not in errors + shown + evaluation.out.read_text(encoding="utf-8")


def test_every_request_asks_by_the_strategy_that_was_named(evaluation: Evaluation, server: FakeTriton) -> None:
    _, shown, _ = evaluation.run("--strategy", "json")
    assert [request.texts.get("strategy") for request in server.requests] == [None] + ["json"] * 5  # health, a first answer, the rows
    assert shown.startswith("4 dialogues, strategy json, ")


def test_without_a_strategy_none_is_sent(evaluation: Evaluation, server: FakeTriton) -> None:
    evaluation.run()
    assert all("strategy" not in request.texts for request in server.requests)
    assert evaluation.report["settings"]["strategy"] is None


def fail_after_health(server: FakeTriton, status: str, details: str, times: float = float("inf")) -> None:
    """Let the check of health through, and then fail."""
    answer = server.reply

    def fail(request: Request) -> Reply:
        server.fail_with(status, details, times)
        server.reply = answer
        return answer(request)

    server.reply = fail


def test_a_server_that_refuses_the_strategy_stops_the_run_before_it_starts(evaluation: Evaluation, server: FakeTriton) -> None:
    fail_after_health(server, "INVALID_ARGUMENT", "unexpected inference input 'strategy' for model 'tagger'")
    status, shown, errors = evaluation.run("--strategy", "words")
    assert (status, shown) == (2, "")
    assert "unexpected inference input 'strategy'" in errors
    assert len(server.requests) == 2
    assert not evaluation.out.exists()


def test_a_model_that_fails_at_the_first_answer_is_still_evaluated(evaluation: Evaluation, server: FakeTriton) -> None:
    fail_after_health(server, "INTERNAL", "the model did not answer with the JSON that was asked for", times=1)
    assert evaluation.run("--strategy", "json")[0] == 0
    assert evaluation.report["figures"]["failed"] == 0


def test_requests_keep_their_distance(evaluation: Evaluation, server: FakeTriton) -> None:
    evaluation.run("--gap-ms", "40")
    arrivals_s = [request.arrived_s for request in server.requests[1:]]  # the first is the health check
    assert len(arrivals_s) == 4
    assert all(after - before >= 0.04 for before, after in itertools.pairwise(arrivals_s))


def test_a_server_that_is_not_there_stops_the_run_before_it_starts(evaluation: Evaluation) -> None:
    status, _, errors = evaluation.run("--url", f"127.0.0.1:{free_port()}")
    assert status == 1
    assert "start the server" in errors
    assert not evaluation.out.exists()


def test_a_disk_that_fails_at_the_end_still_shows_the_figures(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "write_json", full)
    status, shown, errors = evaluation.run()
    assert status == 1
    assert "3 / 4" in shown
    assert "was not written: No space left on device" in errors
