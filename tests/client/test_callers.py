"""The threads of the blocking client: shared, few when it is calm, gone with the client, and never in the way of the process's end."""

import gc
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pika_tagger
from pika_tagger import ClientClosedError, ServerBusyError, Tag, TaggerClient
from pika_tagger._callers import _SPARE_THREADS, Callers
from tests.client.fake_server import FakeServer
from tests.client.test_budget import PATIENCE_S, wait_for

HURRIED_MS = PATIENCE_S * 1000 / 2
"""Shorter than the deadline, so that the caller has to be able to stop waiting."""


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "pika-tagger"}


def ask(tagger: TaggerClient, budget_ms: float = HURRIED_MS) -> Tag:
    return tagger.tag(user_last_message="a", pika_response="b", budget_ms=budget_ms, on_failure="raise")


def test_calls_one_after_the_other_share_threads(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(thread: threading.Thread, begin: Callable[[threading.Thread], None] = threading.Thread.start) -> None:
        started.append(thread.name)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with TaggerClient(server.url, timeout_s=PATIENCE_S) as tagger:
        for _ in range(100):
            ask(tagger)
    assert 1 <= started.count("pika-tagger") <= _SPARE_THREADS  # one may have answered, and not be back yet when the next call comes


def test_a_stall_leaves_a_few_threads_behind_and_they_go_with_the_client(server: FakeServer) -> None:
    with TaggerClient(server.url, timeout_s=PATIENCE_S) as tagger, ThreadPoolExecutor(20) as robots:
        ask(tagger)
        server.hold()
        calls = [robots.submit(ask, tagger) for _ in range(20)]
        wait_for(lambda: tagger.counts.unanswered == 20)
        wait_for(lambda: len(threads()) == 20)
        server.release()
        assert {call.result().emotion_name for call in calls} == {"proud"}
        wait_for(lambda: len(threads()) == _SPARE_THREADS)
        assert ask(tagger).emotion_name == "proud"
    assert threads() == set()


def test_a_budget_that_leaves_time_for_the_deadline_needs_no_other_thread(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(callers: Callers, call: Callable[[], None]) -> None:
        raise RuntimeError("no thread")

    with TaggerClient(server.url, timeout_s=PATIENCE_S) as tagger:
        ask(tagger)
        monkeypatch.setattr(Callers, "take", refuse)
        for budget_ms in (math.inf, 1.1 * PATIENCE_S * 1000):
            assert ask(tagger, budget_ms).emotion_name == "proud"
        assert tagger.health().emotion_name == "proud"
        with pytest.raises(ServerBusyError):
            ask(tagger, HURRIED_MS)


def test_close_ends_calls_under_way_with_one_clear_error_whoever_makes_them(server: FakeServer) -> None:
    tagger = TaggerClient(server.url, timeout_s=PATIENCE_S)
    ask(tagger)
    server.hold()
    with ThreadPoolExecutor(6) as robots:
        calls = [robots.submit(ask, tagger, budget_ms) for budget_ms in (math.inf, HURRIED_MS) * 3]
        wait_for(lambda: tagger.counts.unanswered == 6)
        tagger.close()
        for call in calls:
            with pytest.raises(ClientClosedError, match="has been closed: make a new TaggerClient"):
                call.result()
    assert (tagger.counts.unanswered, threads()) == (0, set())


def test_a_call_whose_connection_goes_before_its_thread_makes_it_is_a_fallback(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(callers: Callers, call: Callable[[], None], take: Callable[..., None] = Callers.take) -> None:
        tagger._channel.close()
        take(callers, call)

    with TaggerClient(server.url, timeout_s=PATIENCE_S) as tagger:
        ask(tagger)
        monkeypatch.setattr(Callers, "take", too_late)
        assert tagger.tag(user_last_message="a", pika_response="b", budget_ms=HURRIED_MS).fallback_reason == "unreachable"


def test_a_client_that_is_forgotten_leaves_no_thread_behind(server: FakeServer) -> None:
    tagger = TaggerClient(server.url, timeout_s=PATIENCE_S)
    ask(tagger)
    assert threads()
    del tagger
    gc.collect()
    wait_for(lambda: threads() == set())


def test_a_process_that_can_have_no_more_threads_gets_a_fallback(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with TaggerClient(server.url, timeout_s=PATIENCE_S) as tagger:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert tagger.tag(user_last_message="a", pika_response="b").fallback_reason == "busy"
            with pytest.raises(ServerBusyError, match=r"no more threads.*ask less at once"):
                ask(tagger)
            assert tagger.counts.unanswered == 0
        assert ask(tagger).emotion_name == "proud"


UNCLOSED = """
import sys
from pika_tagger import TaggerClient

tagger = TaggerClient(sys.argv[1], budget_ms=20, timeout_s=3600)
print(tagger.tag(user_last_message="a", pika_response="b").fallback_reason, tagger.counts.unanswered > 0)
"""


def test_the_end_of_a_process_does_not_wait_for_calls_of_a_client_that_nobody_closed(server: FakeServer) -> None:
    server.hold()
    environment = os.environ | {"PYTHONPATH": str(Path(pika_tagger.__file__).parent.parent)}
    command = [sys.executable, "-c", UNCLOSED, server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert (done.stdout, done.stderr) == ("late True\n", "")
