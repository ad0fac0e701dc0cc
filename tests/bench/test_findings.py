"""What a reader is told about a run before its figures are believed."""

import math

import pytest

from build.bench.findings import arrived_at_once, findings
from build.bench.measure import Measured, Offer
from tests.bench.made import failed, run_of, said

ALL_AT_ONCE = Offer(0, rate_hz=math.inf)


def found(run: Measured) -> str:
    return "\n".join(f"{finding.what}\n{finding.instead}" for finding in findings(run))


def waiting(count: int, each_ms: float, sent_in_s: float = 0.0) -> Measured:
    """As many requests as `count`, answered one after the other."""
    answers = [
        said(number + 1, ms=each_ms * (number + 2), due_s=sent_in_s * number / count, pieces_ms=(each_ms * (number + 1),), tokens=1024)
        for number in range(count)
    ]
    return run_of(*answers, seconds=each_ms * (count + 1) / 1000, offer=ALL_AT_ONCE)


def test_the_case_of_a_thousand_requests_at_once_is_recognised_with_what_to_do_instead() -> None:
    run = waiting(1000, 254.0, sent_in_s=0.5)  # half of them wait for 127 s and more
    text = found(run)
    assert arrived_at_once(run)
    assert text.startswith("All 1000 requests arrived at once. TTFT and latency are therefore time spent waiting for the others")
    assert all(part in text for part in ("254.0 ms", "127.1 s", "254.0 s", "--rate 20", "--request-rate 20", "--max-concurrency"))


def test_as_many_callers_as_requests_are_the_same_case() -> None:
    run = waiting(64, 20.0)
    assert arrived_at_once(run_of(*run.answers, seconds=run.load.seconds, offer=Offer(64, callers=64)))


def test_a_server_that_batches_lets_all_wait_alike_and_it_is_the_same_case() -> None:
    batch = [said(line, ms=11_800.0, due_s=line * 0.0003, pieces_ms=(7500.0 + 38 * line, 11_800.0), tokens=32) for line in range(1, 61)]
    assert arrived_at_once(run_of(*batch, seconds=11.86, offer=ALL_AT_ONCE))


@pytest.mark.parametrize(
    "run",
    [
        waiting(100, 20.0, sent_in_s=1.5),  # they arrive for most of the time
        run_of(*(said(line, ms=60_000.0 if line == 5 else 8.0, due_s=line / 100) for line in range(1, 101)), seconds=60.05),  # one stalls
        run_of(
            *(said(line, ms=15_000.0, due_s=line / 20) for line in range(1, 201)), seconds=25.0
        ),  # none is answered before the last comes
        waiting(19, 20.0),  # too few to tell
    ],
    ids=["spread", "stall", "overload", "few"],
)
def test_what_only_looks_like_it_is_not_called_so(run: Measured) -> None:
    assert not arrived_at_once(run)
    assert "at once" not in found(run)


def at_a_rate(growth_ms: float) -> Measured:
    answers = [said(number + 1, ms=10.0 + growth_ms * number, due_s=number / 50) for number in range(500)]
    return run_of(*answers, seconds=12.0, offer=Offer(500, rate_hz=50.0))


def test_a_server_that_does_not_keep_up_is_recognised() -> None:
    text = found(at_a_rate(1.0))
    assert text.startswith(
        "The server does not keep up with 50 requests a second: the first fifth took 59.5 ms at the median, the last 459.5 ms"
    )
    assert "It answered 41.7 a second" in text
    assert found(at_a_rate(0.001)) == ""


def test_a_closed_loop_cannot_be_too_much() -> None:
    run = at_a_rate(1.0)
    assert "keep up" not in found(run_of(*run.answers, seconds=12.0, offer=Offer(500, callers=4)))


def test_failures_broken_and_cut_answers_are_named_with_their_numbers() -> None:
    many = [said(line) for line in range(1, 301)]
    text = found(run_of(*many, failed(301), failed(302, "late"), said(303, None, cut=True), said(304, None), said(305, None)))
    assert "2 of 305 requests failed (1 busy, 1 late)" in text
    assert "1 of 303 answers were cut at max_tokens" in text
    assert "2 of 303 answers came whole, but are not the JSON" in text


def test_repeats_and_few_answers_are_named_and_a_sound_run_has_no_remark() -> None:
    again = [said(1, due_s=2), said(1, due_s=3)]
    assert "2 of 4 requests were about a dialogue that had been asked about before" in found(run_of(said(1), *again, said(2)))
    assert found(run_of(*(said(line) for line in range(1, 401)), *again)) == ""
    assert "4 answers are few for P99" in found(run_of(said(1), said(2), said(3), said(4)))
    assert found(run_of(*(said(line) for line in range(1, 301)))) == ""
