"""Two runs beside each other: pairs, intervals, and what is concluded from them."""

from dataclasses import replace

import numpy as np
import pytest

from build.bench.bootstrap import Values, interval
from build.bench.compare import Verdict, compare
from build.bench.endpoints import Answer
from build.bench.measure import IN_TURN
from build.bench.verdict import json_of, sentences, tables
from build.errors import PipelineError
from tests.bench.made import failed, run_of, said, session_of

COUNT = 200


def judged(a: list[Answer], b: list[Answer], name: str = IN_TURN) -> Verdict:
    count = max(answer.line for answer in (*a, *b))
    return compare(
        session_of(run_of(*a, name=name), name="theirs", count=count), session_of(run_of(*b, name=name), name="ours", count=count)
    )


def answers(ms: float, wrong: int = 0, noise_ms: float = 1.0, seed: int = 1, wrong_from: int = 1) -> list[Answer]:
    """One for each line, of which `wrong` say sad."""
    chance = np.random.default_rng(seed)
    bad = range(wrong_from, wrong_from + wrong)
    return [said(line, "sad" if line in bad else "proud", ms=ms + float(chance.exponential(noise_ms))) for line in range(1, COUNT + 1)]


def gain(a: Values, b: Values) -> Values:
    found: Values = b.mean(axis=1) - a.mean(axis=1)
    return found


def test_an_interval_is_as_wide_as_theory_says() -> None:
    chance = np.random.default_rng(3)
    a, b = chance.normal(10, 2, (400, 1)), chance.normal(10, 2, (400, 1)) + 1
    found = interval(a, b, gain)
    half_width = 1.96 * float(np.std(b - a, ddof=1)) / 20
    assert found.value == pytest.approx(float((b - a).mean()))
    assert found.value - found.low == pytest.approx(half_width, rel=0.1)
    assert found.high - found.value == pytest.approx(half_width, rel=0.1)


def test_dialogues_are_drawn_together_on_both_sides() -> None:
    lengths = np.random.default_rng(4).normal(100, 30, (200, 1))  # long dialogues are slow on both
    found = interval(lengths, lengths + 1, gain)
    assert [found.low, found.high] == pytest.approx([1.0, 1.0])


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(40):
        right = np.random.default_rng(seed).random((150, 2)) < (0.9, 0.9)
        found = interval(right[:, :1].astype(float), right[:, 1:].astype(float), gain)
        hits += found.low <= 0 <= found.high
    assert 34 <= hits <= 40


@pytest.mark.parametrize(("a", "b"), [(3, 2), (0, 0)])
def test_sides_of_different_length_or_empty_ones_are_refused(a: int, b: int) -> None:
    with pytest.raises(ValueError, match="give the same ones"):
        interval(np.zeros((a, 1)), np.zeros((b, 1)), gain)


def test_the_quicker_side_is_named_with_the_factor_and_its_interval() -> None:
    verdict = judged(answers(100), answers(10, seed=2))
    median = verdict.latency[0]
    assert median.percent == 50
    assert median.ratio.value == pytest.approx(median.a_ms / median.b_ms)
    assert 8 < median.ratio.low < median.ratio.value < median.ratio.high < 10
    text = "\n".join(sentences(verdict))
    assert "p50: B is quicker, 9." in text
    assert "Verdict: B is quicker, no loss of accuracy is shown" in text
    turned = "\n".join(sentences(judged(answers(10, seed=2), answers(100))))
    assert "p50: A is quicker, 9." in turned
    assert "Verdict: A is quicker" in turned


def test_no_difference_is_called_one() -> None:
    text = "\n".join(sentences(judged(answers(10, noise_ms=8), answers(10, noise_ms=8, seed=2))))
    assert "p50: no difference is shown, A / B = " in text
    assert "Verdict: neither is shown to be quicker" in text


def test_a_loss_of_accuracy_forbids_the_exchange_however_quick_b_is() -> None:
    verdict = judged(answers(100), answers(10, wrong=20))
    emotion, celebrate = verdict.accuracy
    assert (emotion.a, emotion.b, emotion.only_a, emotion.only_b) == (1.0, 0.9, 20, 0)
    assert emotion.gain.value == pytest.approx(-0.1)
    assert emotion.gain.low < -0.1 < emotion.gain.high < 0
    assert (celebrate.only_a, celebrate.only_b) == (0, 0)
    text = "\n".join(sentences(verdict))
    assert "emotion: B is right less often, by -10.0 points" in text
    assert "Verdict: B is quicker, and B is less right in emotion. That must be mended" in text


def test_a_gain_is_named_and_few_differences_are_none() -> None:
    assert "emotion: B is right more often, by +10.0 points" in "\n".join(sentences(judged(answers(9, wrong=20), answers(9))))
    text = "\n".join(sentences(judged(answers(9, wrong=3), answers(9, wrong=3, wrong_from=100))))
    assert "emotion: no difference is shown, +0.0 points (-2.5 to +2.5)" in text


def test_answers_that_are_all_the_same_do_not_make_certain() -> None:
    verdict = judged(answers(9), answers(9))
    assert [(each.gain.low, each.gain.high) for each in verdict.accuracy] == [(-3 / COUNT, 3 / COUNT)] * 2
    text = "\n".join(sentences(verdict))
    assert "both are right on the same dialogues (100.0%); with 200 of them, a true difference of up to 1.5 points" in text
    assert "cannot exclude that B loses up to 1.5 points" in text


def test_every_disagreement_is_listed_with_who_is_right() -> None:
    a = [said(1), said(2, "happy"), said(3, "sad", celebrate=False), said(4), said(5, None), said(6)]
    b = [said(1, celebrate=False), said(2, "proud"), said(3, "happy", celebrate=False), said(4), said(5), failed(6)]
    verdict = judged(a, b)
    (table,) = [table for table in tables(verdict) if table.title.startswith("Disagreements")]
    assert table.rows == (
        ("1", "row-1", "proud or happy, yes", "proud, yes", "proud, no", "same", "A"),
        ("2", "row-2", "proud or happy, yes", "happy, yes", "proud, yes", "both", "same"),
        ("3", "row-3", "proud or happy, yes", "sad, no", "happy, no", "B", "same"),
        ("5", "row-5", "proud or happy, yes", "not the JSON", "proud, yes", "B", "B"),
        ("6", "row-6", "proud or happy, yes", "proud, yes", "busy", "A", "A"),
    )
    assert [line.split()[0] for line in table.lines()][2:] == ["1", "2", "3", "5", "6"]
    assert [each["line"] for each in json_of(verdict)["disagreements"]] == [1, 2, 3, 5, 6]


def test_with_failed_requests_there_is_no_verdict() -> None:
    text = "\n".join(sentences(judged([said(1), failed(2)], [said(1), said(2)])))
    assert "Verdict: none. 1 requests of A failed and 0 of B" in text


def test_latencies_are_those_of_dialogues_that_both_answered_with_equal_repeats() -> None:
    a = [said(1, ms=10), said(1, ms=30, due_s=9), said(2, ms=20), failed(3), said(4, ms=1)]
    b = [said(1, ms=1), said(2, ms=2), said(2, ms=99, due_s=9), said(3, ms=3)]
    verdict = judged(a, b)
    assert [side.tolist() for side in verdict.latencies_ms] == [[10, 20], [1, 2]]
    assert verdict.dialogues == 3


def test_without_one_dialogue_answered_by_both_there_are_no_latencies() -> None:
    verdict = judged([said(1), failed(2)], [failed(1), said(2)])
    assert verdict.latency == ()
    assert any("Verdict: none" in sentence for sentence in sentences(verdict))


def test_runs_in_turn_come_first_and_others_are_marked() -> None:
    both = [run_of(said(1, ms=5), name="1 at a time"), run_of(said(1, ms=7), name=IN_TURN)]
    verdict = compare(session_of(*both, count=1), session_of(*both[::-1], count=1))
    assert (verdict.latencies_ms[0].tolist(), verdict.in_turn) == ([7], True)
    text = "\n".join(sentences(judged([said(1)], [said(1)], name="4 at a time")))
    assert "measured one after the other" in text
    assert "one after the other" not in "\n".join(sentences(verdict))


def test_what_cannot_be_compared_is_refused() -> None:
    one = session_of(run_of(said(1)), count=1)
    with pytest.raises(PipelineError, match="another file or version"):
        compare(one, session_of(run_of(said(1)), count=1, sha256="cd" * 32))
    with pytest.raises(PipelineError, match="not asked in the same way"):
        compare(one, session_of(run_of(said(1), name="20/s"), count=1))
    with pytest.raises(PipelineError, match="no dialogue was asked about on both sides"):
        compare(replace(one, rows=session_of(count=2).rows), session_of(run_of(said(2)), count=2))
