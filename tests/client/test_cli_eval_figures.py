"""pika-tag eval: precision, confusion, celebrations and calibration, from the file to the report."""

import pytest

from pika_tagger import TaggerClient, _evaluate, _outcomes
from pika_tagger._labelled import Row
from tests.client.evaluation import PIKA, Evaluation, obey
from tests.support.fake_triton import LABELS, FakeTriton, Reply, Request

# The shared rows: happy as happy, proud acceptable as proud (first label thats_right), happy as sad, calm as calm; confidence 0.75 each.


def test_figures_hold_precision_recall_and_confusion(evaluation: Evaluation) -> None:
    evaluation.run()
    figures = evaluation.report["figures"]
    assert figures["emotion_macro_f1"] == pytest.approx((2 / 3 + 1 + 0 + 1) / 4)
    assert list(figures["emotion_per_label"]) == list(LABELS)
    assert figures["emotion_per_label"]["happy"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert figures["emotion_per_label"]["proud"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
    assert figures["emotion_per_label"]["thats_right"]["support"] == 0
    counts = figures["emotion_confusion"]["true_by_predicted"]
    found = {(LABELS[row], LABELS[column]): count for row, line in enumerate(counts) for column, count in enumerate(line) if count}
    assert found == {("happy", "happy"): 1, ("proud", "proud"): 1, ("happy", "sad"): 1, ("calm", "calm"): 1}
    assert figures["emotion_confusion"]["labels"] == list(LABELS)
    assert figures["emotion_confusion"]["failed"] == [0] * len(LABELS)


def test_figures_hold_celebrations(evaluation: Evaluation) -> None:
    evaluation.run()
    assert evaluation.report["figures"]["celebrate_yes"] == {
        "precision": 0.5,
        "recall": 1.0,
        "right_celebrations": 1,
        "false_celebrations": 1,
        "missed_celebrations": 0,
    }


def test_figures_hold_the_calibration_of_the_answers_given(evaluation: Evaluation) -> None:
    evaluation.write(
        {"user_last_message": "happy no", "pika_response": PIKA, "emotion": ["calm", "happy"], "celebrate": "no"},
        {"user_last_message": "sad yes", "pika_response": PIKA, "emotion": "happy", "celebrate": "yes"},
    )
    evaluation.run()
    figures = evaluation.report["figures"]
    emotion, celebrate = figures["emotion_calibration"], figures["celebrate_calibration"]
    assert emotion["expected_calibration_error"] == pytest.approx(0.25)  # 0.75 sure, right in 1 of 2
    assert emotion["bins"][7] == {"low": 0.7, "high": 0.8, "count": 2, "confidence": 0.75, "accuracy": 0.5}
    assert celebrate["expected_calibration_error"] == pytest.approx(0.125)  # 0.875 sure of no and of yes, right in both
    assert celebrate["bins"][8] == {"low": 0.8, "high": 0.9, "count": 2, "confidence": 0.875, "accuracy": 1.0}


def test_the_screen_shows_them(evaluation: Evaluation) -> None:
    _, shown, _ = evaluation.run()
    assert "macro-F1 0.6667" in shown
    assert "confusion: rows true, columns predicted\n" in shown
    assert "celebrations: 1 right, 1 false (nothing to celebrate), 0 missed\n  precision 50.0%   recall 100.0%\n" in shown
    assert "  emotion    sure  75.0%   right  75.0%   ECE   0.0%\n" in shown
    assert "  celebrate  sure  87.5%   right  75.0%   ECE  12.5%\n" in shown
    assert PIKA not in shown + evaluation.out.read_text(encoding="utf-8")


def certain(request: Request) -> Reply:
    """What a strategy without probabilities answers."""
    return Reply("happy", "yes", tuple(float(label == "happy") for label in LABELS), 1.0)


def test_answers_without_probabilities_have_no_calibration(evaluation: Evaluation, server: FakeTriton) -> None:
    server.reply = certain
    _, shown, _ = evaluation.run()
    assert evaluation.report["figures"]["emotion"]["right"] == 2
    assert evaluation.report["figures"]["emotion_calibration"]["expected_calibration_error"] is None
    assert "  emotion    sure      -   right      -   ECE      -\n" in shown
    assert "no answer has a probability" in shown


def test_a_calibration_that_cannot_be_judged_does_not_pass(evaluation: Evaluation, server: FakeTriton) -> None:
    server.reply = certain
    status, _, errors = evaluation.run("--max-ece", "1")
    assert status == 1
    assert "emotion calibration cannot be judged: there is no answer with a probability" in errors


def test_one_answer_with_a_probability_shows_that_the_others_are_sure(evaluation: Evaluation, server: FakeTriton) -> None:
    server.reply = lambda request: certain(request) if request.texts["user_last_message"] == "sad no" else obey(request)
    evaluation.run()
    assert evaluation.report["figures"]["emotion_calibration"]["bins"][9]["count"] == 1


def test_figures_hold_celebrations_at_other_thresholds(evaluation: Evaluation) -> None:
    evaluation.run()
    found = evaluation.report["figures"]["celebrate_thresholds"]
    assert found["present_threshold_between"] == [0.125, 0.875]  # the scores of no and of yes
    by_step = {step["threshold"]: (step["false_celebrations"], step["missed_celebrations"]) for step in found["steps"]}
    assert (by_step[0.1], by_step[0.85], by_step[0.9]) == ((3, 0), (1, 0), (0, 1))


def test_failed_requests_are_missed_and_have_no_confidence(server: FakeTriton, tagger: TaggerClient) -> None:
    assert tagger.server_info().labels
    server.fail_with("INTERNAL", "broken")
    rows = [Row(1, None, {"user_last_message": "a", "pika_response": "b"}, ("calm", "sad"), True, None)]
    figures = _evaluate.figures_of(list(_outcomes.run(tagger, rows, 0.0, None))).json()
    assert figures["emotion_macro_f1"] == 0.0
    assert figures["emotion_confusion"] == {"labels": ["calm", "sad"], "true_by_predicted": [[0, 0], [0, 0]], "failed": [1, 0]}
    assert figures["celebrate_yes"]["missed_celebrations"] == 1
    assert figures["emotion_calibration"]["expected_calibration_error"] is None
    assert figures["celebrate_calibration"]["expected_calibration_error"] is None
