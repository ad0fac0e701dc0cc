"""The budget bounds the wait, the deadline bounds the call; what comes late is counted, and what piles up is refused."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pika_tagger import (
    InvalidSettingError,
    ServerBusyError,
    Tag,
    TaggerClient,
    TaggerConnectionError,
    TaggerError,
    TaggerTimeoutError,
)
from pika_tagger._retry import MAX_ATTEMPTS, Throttle, pause_s
from tests.client import raw_servers
from tests.client.fake_server import FakeServer
from tests.client.raw_servers import Behaviour, listening
from tests.client.test_errors import CHILD, GARBAGE, PIKA, assert_private
from tests.client.twins import Make
from tests.support.fake_triton import Reply, free_port, reply_with

PATIENCE_S = 20.0


def ask(tagger: TaggerClient, **settings: Any) -> Tag:
    return tagger.tag(user_last_message=CHILD, pika_response=PIKA, **settings)


def wait_for(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.005)


def assert_fallback(tag: Tag, reason: str) -> None:
    assert tag.error is not None
    assert (tag.fallback, tag.fallback_reason) == (True, reason)
    assert (tag.emotion_name, tag.celebrate, tag.confidence, tag.celebrate_score) == ("calm", False, 0.0, 0.0)
    assert dict(tag.emotion_scores) == {}
    assert tag.json() == '{"emotion_name": "calm", "celebrate": "no"}'
    assert tag.error.__traceback__ is None
    assert_private(tag.error)


def test_a_tag_within_the_budget_is_no_fallback(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=10_000) as tagger:
        tag = ask(tagger)
        assert (tag.emotion_name, tag.fallback, tag.fallback_reason, tag.error) == ("proud", False, None, None)
        assert (tagger.counts.tags, dict(tagger.counts.fallbacks), tagger.counts.late) == (1, {}, 0)


def test_a_caller_goes_on_with_a_fallback_while_the_server_still_works_on_the_answer(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=30, timeout_s=PATIENCE_S) as tagger:
        tagger.health()
        server.hold()
        assert_fallback(ask(tagger), "late")
        assert tagger.counts.unanswered == 1  # and the call has not been cancelled
        server.release()
        wait_for(lambda: tagger.counts.unanswered == 0)
        counts = tagger.counts
        assert (counts.tags, dict(counts.fallbacks), counts.late) == (0, {"late": 1}, 1)
        assert server.cancelled == 0


def test_a_call_that_fails_late_is_no_late_tag(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=30, timeout_s=PATIENCE_S) as tagger:
        tagger.health()
        server.hold()
        server.fail_with("INTERNAL", "no")
        assert_fallback(ask(tagger), "late")
        server.release()
        wait_for(lambda: tagger.counts.unanswered == 0)
        assert tagger.counts.late == 0


def test_a_late_answer_is_not_taken_for_that_of_the_next_line(server: FakeServer, make: Make) -> None:
    server.reply = lambda request: reply_with(request.texts["user_last_message"].removesuffix("Hello.") or "calm")
    with make(server.url, on_failure="fallback", budget_ms=30, timeout_s=PATIENCE_S) as tagger:
        tagger.health()
        server.hold()
        assert tagger.tag(user_last_message="sad", pika_response="b").fallback
        server.release()
        assert tagger.tag(user_last_message="happy", pika_response="b", budget_ms=10_000).emotion_name == "happy"


def test_the_deadline_ends_a_call_that_nobody_waits_for(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=30, timeout_s=0.3) as tagger:
        tagger.health()
        server.hold()
        assert ask(tagger).fallback
        wait_for(lambda: tagger.counts.unanswered == 0)
        assert tagger.counts.late == 0
        server.release()


def test_the_first_tag_of_all_is_bound_too(server: FakeServer, make: Make) -> None:
    server.hold()
    with make(server.url, on_failure="fallback", budget_ms=30, timeout_s=0.5) as tagger:
        assert_fallback(ask(tagger), "late")
        server.release()


def test_on_failure_raise_names_the_budget(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=30, timeout_s=0.5) as tagger:
        tagger.health()
        server.hold()
        with pytest.raises(TaggerTimeoutError, match=r"within the budget of 30 ms: .* larger budget_ms") as caught:
            ask(tagger, on_failure="raise")
        assert_private(caught.value)
        assert dict(tagger.counts.fallbacks) == {"late": 1}
        server.release()


def test_one_call_may_have_another_budget_and_another_way_to_fail(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="raise", budget_ms=10_000, timeout_s=0.5) as tagger:
        tagger.health()
        server.hold()
        assert_fallback(ask(tagger, budget_ms=20, on_failure="fallback"), "late")
        server.release()
        assert not ask(tagger).fallback


def test_calls_that_pile_up_are_refused_at_once(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=20, timeout_s=PATIENCE_S, max_unanswered=3) as tagger:
        tagger.health()
        server.hold()
        answered = len(server.requests)
        tags = [ask(tagger) for _ in range(10)]
        assert [tag.fallback_reason for tag in tags] == ["late"] * 3 + ["busy"] * 7
        with pytest.raises(ServerBusyError, match=r"3 calls to .* are unanswered.* add a server"):
            ask(tagger, on_failure="raise")
        assert tagger.counts.unanswered == 3
        server.release()
        wait_for(lambda: tagger.counts.unanswered == 0)
        assert len(server.requests) == answered + 3
        assert tagger.counts.late == 3
        assert not ask(tagger, budget_ms=10_000).fallback


def test_many_callers_all_come_back_from_a_server_that_stalls(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=50, timeout_s=0.5, max_unanswered=20) as tagger:
        tagger.health()
        server.hold()
        with ThreadPoolExecutor(8) as pool:
            tags = list(pool.map(lambda _: ask(tagger), range(80)))
        assert {tag.fallback_reason for tag in tags} <= {"late", "busy"}
        assert sum(tagger.counts.fallbacks.values()) == len(tags) == 80
        server.release()
        wait_for(lambda: tagger.counts.unanswered == 0)


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("INVALID_ARGUMENT", "pika_response is blank", "refused"),
        ("UNAVAILABLE", "Exceeds maximum queue size", "busy"),
        ("UNAVAILABLE", "Server is stopping", "unreachable"),
        ("UNAVAILABLE", "This protocol is restricted", "denied"),
        ("UNAUTHENTICATED", "", "denied"),
        ("DEADLINE_EXCEEDED", "", "late"),
        ("INTERNAL", f"cannot tag {CHILD}", "failed"),
        ("UNKNOWN", "", "failed"),
    ],
)
def test_every_failure_has_its_reason(server: FakeServer, make: Make, status: str, details: str, reason: str) -> None:
    server.fail_with(status, details)
    with make(server.url, on_failure="fallback", timeout_s=5.0) as tagger:
        assert_fallback(ask(tagger), reason)
        assert dict(tagger.counts.fallbacks) == {reason: 1}


@pytest.mark.parametrize("spoil", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_fallback(server: FakeServer, make: Make, spoil: Callable[[Any], None]) -> None:
    server.spoil = spoil
    with make(server.url, on_failure="fallback", timeout_s=5.0) as tagger:
        assert_fallback(ask(tagger), "failed")


def test_an_answer_of_a_hundred_megabytes_is_a_fallback(server: FakeServer, make: Make) -> None:
    server.reply = lambda request: Reply(emotion_name="x" * 100_000_000)
    with make(server.url, on_failure="fallback", timeout_s=PATIENCE_S) as tagger:
        assert_fallback(ask(tagger), "failed")


def test_nobody_there_is_a_fallback(make: Make) -> None:
    with make(f"127.0.0.1:{free_port()}", on_failure="fallback", budget_ms=PATIENCE_S * 1000) as tagger:
        assert_fallback(ask(tagger), "unreachable")


@pytest.mark.parametrize(
    ("behave", "reasons"),
    [
        (raw_servers.close_at_once, {"unreachable", "late"}),
        (raw_servers.never_speak, {"late"}),
        (raw_servers.talk_rubbish, {"unreachable", "late"}),
        (raw_servers.flood, {"unreachable", "late"}),
    ],
)
def test_what_is_no_grpc_server_is_a_fallback_every_time(make: Make, behave: Behaviour, reasons: set[str]) -> None:
    with listening(behave) as url, make(url, on_failure="fallback", budget_ms=50, timeout_s=0.3) as tagger:
        for _ in range(5):
            tag = ask(tagger)
            assert tag.fallback_reason in reasons
            assert_fallback(tag, str(tag.fallback_reason))
        wait_for(lambda: tagger.counts.unanswered == 0)


def test_a_server_that_stops_and_comes_back_is_used_again(make: Make) -> None:
    with FakeServer() as first:
        port = first.port
        tagger = make(first.url, on_failure="fallback", budget_ms=PATIENCE_S * 1000)
        assert not ask(tagger).fallback
    with tagger:
        assert_fallback(ask(tagger), "unreachable")
        with FakeServer(port):
            wait_for(lambda: not ask(tagger).fallback)


def test_a_connection_that_is_cut_under_a_call_is_a_fallback(make: Make) -> None:
    with ThreadPoolExecutor(1) as pool, FakeServer() as server, make(server.url, on_failure="fallback", timeout_s=PATIENCE_S) as tagger:
        tagger.health()
        server.hold()
        call = pool.submit(ask, tagger)
        wait_for(lambda: len(server.metadata) == 2)
        server.cut()
        assert call.result().fallback_reason in ("unreachable", "failed")


def test_the_face_of_the_fallback_can_be_chosen(make: Make) -> None:
    with make(f"127.0.0.1:{free_port()}", on_failure="fallback", fallback_emotion="thinking") as tagger:
        assert ask(tagger).json() == '{"emotion_name": "thinking", "celebrate": "no"}'


def test_unavailable_is_tried_again_at_once_and_nothing_else_is(server: FakeServer, tagger: TaggerClient) -> None:
    tagger.health()
    server.requests.clear()
    server.fail_with("UNAVAILABLE", "Server is stopping", times=2)
    assert not ask(tagger).fallback
    assert (len(server.requests), tagger.counts.retried) == (3, 2)
    for status in ("INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "ABORTED", "UNKNOWN"):
        server.requests.clear()
        server.fail_with(status, "no", times=1)
        with pytest.raises(TaggerError):
            ask(tagger)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "details"),
    [
        ("NOT_FOUND", "Request for unknown model: 'tagger' has no available versions"),
        ("INTERNAL", "the engine failed: Model tensorrt_llm - Error when running inference: Server not ready"),
        ("CANCELLED", "CANCELLED"),
    ],
)
def test_a_server_that_stops_in_order_is_like_one_that_is_gone(server: FakeServer, tagger: TaggerClient, status: str, details: str) -> None:
    tagger.health()
    server.fail_with(status, details, times=2)
    assert not ask(tagger).fallback
    assert tagger.counts.retried == 2


def test_attempts_have_an_end(server: FakeServer, tagger: TaggerClient) -> None:
    tagger.health()
    server.requests.clear()
    server.fail_with("UNAVAILABLE", "Server is stopping")
    with pytest.raises(TaggerConnectionError):
        ask(tagger)
    assert len(server.requests) == MAX_ATTEMPTS


def test_a_server_that_keeps_failing_is_spared_further_attempts(server: FakeServer, tagger: TaggerClient) -> None:
    tagger.health()
    server.fail_with("UNAVAILABLE", "Server is stopping")
    for _ in range(40):
        with pytest.raises(TaggerConnectionError):
            ask(tagger)
    server.requests.clear()
    for _ in range(10):
        with pytest.raises(TaggerConnectionError):
            ask(tagger)
    assert len(server.requests) == 10


def test_further_attempts_come_back_when_servers_answer_again(server: FakeServer, tagger: TaggerClient) -> None:
    tagger.health()
    server.fail_with("UNAVAILABLE", "Server is stopping")
    for _ in range(40):
        with pytest.raises(TaggerConnectionError):
            ask(tagger)
    server.fail_with("UNAVAILABLE", "Server is stopping", times=0)
    for _ in range(20):
        ask(tagger)
    server.fail_with("UNAVAILABLE", "Server is stopping", times=1)
    assert not ask(tagger).fallback


def test_nothing_is_sent_again_after_the_budget(server: FakeServer, make: Make) -> None:
    with make(server.url, on_failure="fallback", budget_ms=30, timeout_s=PATIENCE_S) as tagger:
        tagger.health()
        server.hold()
        server.requests.clear()
        server.fail_with("UNAVAILABLE", "Server is stopping")
        assert_fallback(ask(tagger), "late")
        server.release()
        wait_for(lambda: tagger.counts.unanswered == 0)
        assert (len(server.requests), tagger.counts.retried) == (1, 0)


def test_a_pause_that_would_use_the_budget_up_is_not_made(server: FakeServer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pika_tagger._base.pause_s", lambda attempt: 10.0)
    with make(server.url, on_failure="fallback", budget_ms=5_000) as tagger:
        tagger.health()
        server.fail_with("UNAVAILABLE", "Server is stopping", times=1)
        assert_fallback(ask(tagger), "unreachable")


def test_chance_does_not_shut_the_throttle_while_every_second_call_fails() -> None:
    for seed in range(50):
        chance, throttle = random.Random(seed), Throttle()
        throttle.succeeded()
        shut = 0
        for _ in range(1000):
            if chance.random() < 0.5:
                throttle.succeeded()
            else:
                shut += not throttle.failed()
        assert shut == 0


def test_the_throttle_shuts_while_four_of_five_calls_fail() -> None:
    throttle = Throttle()
    allowed = []
    for number in range(400):
        if number % 5 == 0:
            throttle.succeeded()
        else:
            allowed.append(throttle.failed())
    assert allowed[0]
    assert not any(allowed[100:])


def test_pauses_grow_and_differ() -> None:
    for attempt, most_s in enumerate((0.002, 0.004, 0.008, 0.008)):
        pauses_s = {pause_s(attempt) for _ in range(200)}
        assert most_s / 2 <= min(pauses_s) < max(pauses_s) <= most_s
        assert len(pauses_s) > 100


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("budget_ms", 0, "milliseconds"),
        ("budget_ms", float("nan"), "milliseconds"),
        ("budget_ms", "50", "milliseconds"),
        ("budget_ms", True, "milliseconds"),
        ("on_failure", "ignore", "'fallback' or 'raise'"),
        ("fallback_emotion", "", "such as calm"),
        ("max_unanswered", 0, "whole number"),
        ("max_unanswered", 2.5, "whole number"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(make: Make, setting: str, value: object, advice: str) -> None:
    with pytest.raises(InvalidSettingError, match=rf"{setting} .*{advice}"):
        make(**{setting: value})


@pytest.mark.parametrize(("setting", "value"), [("budget_ms", -1), ("on_failure", "ignore"), ("metadata", {"a b": "c"})])
def test_a_setting_of_one_call_is_checked_too(server: FakeServer, tagger: TaggerClient, setting: str, value: object) -> None:
    with pytest.raises(InvalidSettingError, match=setting):
        ask(tagger, **{setting: value})
    assert server.requests == []
