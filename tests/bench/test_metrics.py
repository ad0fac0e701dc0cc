"""The figures of a run, counted by hand, and how they are printed."""

import pytest

from build.bench.block import WIDTH, block, remarks
from build.bench.measure import Offer
from build.bench.metrics import ITL, LATENCY, NOTHING, ONE_TOKEN, TITLES, TPOT, TTFT, WHOLE, accuracy, json_of, metrics, throughput
from tests.bench.made import failed, rows_of, run_of, said

STREAMED = run_of(
    said(1, ms=50, pieces_ms=(20, 30, 45), tokens=4),
    said(2, emotion="sad", ms=30, pieces_ms=(25,), tokens=1),
    said(3, emotion=None, ms=120, pieces_ms=(30, 110), tokens=50, cut=True),
    failed(4),
    seconds=4.0,
)


def test_times_are_those_of_whole_answers() -> None:
    found = metrics(STREAMED)
    assert found[TTFT].values_ms == (20, 25, 30)
    assert found[LATENCY].values_ms == (50, 30, 120)
    assert found[ITL].values_ms == (10, 15, 80)
    assert found[TPOT].values_ms == ((50 - 20) / 3, (120 - 30) / 49)  # an answer of one token has none
    assert found[LATENCY].mean_ms == pytest.approx(200 / 3)
    assert found[LATENCY].percentiles_ms == {"p50": 50, "p90": 120, "p95": 120, "p99": 120, "max": 120}


def test_an_answer_that_comes_whole_has_its_first_token_with_the_last() -> None:
    found = metrics(run_of(said(1, ms=8), said(2, ms=9)))
    assert found[TTFT].values_ms == found[LATENCY].values_ms == (8, 9)
    assert (found[TPOT].absent, found[ITL].absent) == (WHOLE, WHOLE)


@pytest.mark.parametrize("pieces_ms", [(), (8.0,)])
def test_with_one_token_there_is_no_time_per_token(pieces_ms: tuple[float, ...]) -> None:
    found = metrics(run_of(said(1, tokens=1, pieces_ms=pieces_ms), said(2, tokens=1, pieces_ms=pieces_ms)))
    assert (found[TPOT].absent, found[ITL].absent) == (ONE_TOKEN, ONE_TOKEN)
    assert found[TPOT].json() == {"absent": "n/a (1 token)"}


def test_a_run_without_any_answer_has_no_figures() -> None:
    run = run_of(failed(1), failed(2, "late"))
    assert {metric.absent for metric in metrics(run).values()} == {NOTHING}
    assert (throughput(run).requests_hz, throughput(run).output_tokens_hz, run.goodput(50)) == (0, None, (0, 0))
    assert any(line.split() == ["Failed", "requests,", "late:", "1"] for line in block("x", run, rows_of(2)))


def test_throughput_counts_whole_answers_and_tokens_only_if_all_are_known() -> None:
    assert (throughput(STREAMED).requests_hz, throughput(STREAMED).output_tokens_hz) == (3 / 4, 55 / 4)
    assert throughput(run_of(said(1, tokens=3), said(2))).output_tokens_hz is None


def test_goodput_counts_only_what_a_robot_can_use() -> None:
    run = run_of(said(1, ms=25), said(2, ms=25.1), said(3, emotion=None, ms=5), failed(4), said(5, ms=50), seconds=2.0)
    assert run.goodput(25) == (1 / 2, 1 / 5)
    assert run.goodput(50) == (3 / 2, 3 / 5)


def test_what_is_missing_or_cannot_be_used_is_wrong() -> None:
    run = run_of(said(1), said(2, "happy", celebrate=False), said(3, "sad"), said(4, None), failed(4))
    counted = accuracy(run, rows_of(4))
    assert counted is not None
    emotion, celebrate = counted
    assert (emotion.right, emotion.total, celebrate.right, celebrate.total) == (2, 5, 2, 5)
    assert json_of(run, rows_of(4))["unusable"] == 1


def test_the_block_is_as_people_know_it() -> None:
    lines = list(block("tagger, strategy codes", STREAMED, rows_of(4)))
    assert lines[0].strip("=") == " Serving Benchmark Result "
    assert {len(lines[0]), len(lines[-1])} == {WIDTH}
    shown = dict(line.split(":", 1) for line in lines if ":" in line)
    assert {name: value.strip() for name, value in shown.items()}.items() >= {
        "Requests offered": "4, 1 at a time",
        "Successful requests": "3",
        "Failed requests, busy": "1",
        "Answers that cannot be used": "1",
        "Request throughput (req/s)": "0.75",
        "Output token throughput (tok/s)": "13.75",
        "Goodput within 25 ms (req/s, share)": "0.00, 0.0%",
        "Goodput within 50 ms (req/s, share)": "0.50, 50.0%",
        "Emotion right, celebrate right": "25.0%, 50.0%",
        "Median TTFT (ms)": "25.00",
        "P99 E2EL (ms)": "120.00",
    }.items()
    assert [title in "\n".join(lines) for _, title in TITLES.values()] == [True] * 4


def test_the_block_says_why_a_figure_is_not_there() -> None:
    lines = list(block("x", run_of(said(1, tokens=1)), rows_of(1)))
    assert [line.split(":")[1].strip() for line in lines if line.startswith(("TPOT", "ITL"))] == [ONE_TOKEN] * 2


def test_remarks_fit_the_block() -> None:
    lines = list(remarks(STREAMED))
    assert lines[0].startswith("! 1 of 4 requests failed (1 busy)")
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize(
    ("offer", "name"),
    [(Offer(9, callers=4), "4 at a time"), (Offer(9, rate_hz=2.5), "2.5/s"), (Offer(9, rate_hz=float("inf")), "all at once")],
)
def test_an_offer_has_the_name_that_people_give_it(offer: Offer, name: str) -> None:
    assert offer.name == name
