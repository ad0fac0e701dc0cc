"""Requests join between steps and are computed together; one that fails, is stopped or left harms no other, and there is a bound."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

import pytest

from answer import Answer
from engine_request import BusyError, Request
from progress import Progress
from stepper import Stepper

PATIENCE_S = 20.0
VOCAB_SIZE = 16


@pytest.fixture(autouse=True)
def switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


class Engine:
    """Each step gives every answer one token, the one after its last; a step waits until it is let through."""

    def __init__(self) -> None:
        self.under_way: list[Answer] = []
        self.together: Queue[int] = Queue()
        self.left: list[Answer] = []
        self.failing = False
        self._go = threading.Semaphore(0)

    def begin(self, request: Request) -> Answer:
        if request.prompt_ids == [13]:
            raise ValueError("unlucky")
        self.under_way.append(Answer(request, request.prompt_ids, VOCAB_SIZE))
        return self.under_way[-1]

    def step(self) -> list[Answer]:
        self.together.put(len(self.under_way))
        assert self._go.acquire(timeout=PATIENCE_S)
        if self.failing:
            self.failing = False
            raise RuntimeError("out of memory")
        advanced = list(self.under_way)
        for answer in advanced:
            token = ([*answer.request.prompt_ids, *answer.tokens][-1] + 1) % VOCAB_SIZE
            answer.advance([token], ended=len(answer.tokens) + 1 == answer.request.max_new_tokens, reused_tokens=0)
        self.under_way = [answer for answer in self.under_way if not answer.finished]
        return advanced

    def leave(self, answer: Answer) -> None:
        self.left.append(answer)
        self.under_way = [other for other in self.under_way if other is not answer]

    def open(self, n: int = 1) -> None:
        self._go.release(n)

    def next(self) -> int:
        """How many answers are in the step that is about to be computed."""
        return self.together.get(timeout=PATIENCE_S)


class Listener:
    """A caller that keeps what it is told."""

    def __init__(self, fails_to_listen: bool = False) -> None:
        self.events: Queue[tuple[str, object]] = Queue()
        self.gone = False
        self.fails_to_listen = fails_to_listen

    def advanced(self, generation: Progress) -> None:
        if self.fails_to_listen:
            raise RuntimeError("the sender is gone")
        self.events.put(("finished" if generation.finished else "token", list(generation.tokens)))

    def stopped(self, generation: Progress | None) -> None:
        self.events.put(("stopped", generation and list(generation.tokens)))

    def failed(self, error: Exception) -> None:
        self.events.put(("failed", str(error)))

    def gave_up(self) -> bool:
        return self.gone

    def end(self) -> tuple[str, object]:
        while (event := self.events.get(timeout=PATIENCE_S))[0] == "token":
            pass
        return event


@contextmanager
def stepping(max_in_flight: int = 8) -> Iterator[tuple[Engine, Stepper]]:
    engine = Engine()
    stepper = Stepper(engine, max_in_flight)
    try:
        yield engine, stepper
    finally:
        engine.open(1000)
        stepper.close()


def test_who_comes_during_a_step_is_in_the_next_and_all_are_computed_together() -> None:
    first, second = Listener(), Listener()
    with stepping() as (engine, stepper):
        stepper.submit(Request([1], 3), "a", first)
        assert engine.next() == 1
        stepper.submit(Request([8], 2), "b", second)
        engine.open()
        assert engine.next() == 2
        engine.open(2)
        assert first.end() == ("finished", [2, 3, 4])
        assert second.end() == ("finished", [9, 10])


def test_every_token_is_told_as_it_comes() -> None:
    caller = Listener()
    with stepping() as (engine, stepper):
        stepper.submit(Request([1], 2), "a", caller)
        engine.open()
        assert caller.events.get(timeout=PATIENCE_S) == ("token", [2])
        engine.open()
        assert caller.events.get(timeout=PATIENCE_S) == ("finished", [2, 3])


def test_nothing_is_computed_while_nobody_asks() -> None:
    caller = Listener()
    with stepping() as (engine, stepper):
        engine.open(100)
        stepper.submit(Request([1], 1), "a", caller)
        caller.end()
        assert engine.next() == 1
        stepper.stop("nobody")
        stepper.submit(Request([1], 1), "a", caller)
        caller.end()
        assert engine.next() == 1
        assert engine.together.empty()


def test_more_than_may_be_are_refused_and_room_is_made_by_those_that_end() -> None:
    first, second, third = Listener(), Listener(), Listener()
    with stepping(max_in_flight=2) as (engine, stepper):
        stepper.submit(Request([1], 1), "a", first)
        stepper.submit(Request([2], 1), "b", second)
        with pytest.raises(BusyError, match="2 requests are under way or wait, which is max_num_seqs and max_queue_size: try again later"):
            stepper.submit(Request([3], 1), "c", third)
        engine.open(2)
        first.end(), second.end()
        stepper.submit(Request([3], 1), "c", third)
        engine.open(2)
        assert third.end() == ("finished", [4])


def test_one_that_the_engine_does_not_take_fails_alone_and_holds_no_place() -> None:
    unlucky, other = Listener(), Listener()
    with stepping(max_in_flight=1) as (engine, stepper):
        engine.open(100)
        for _ in range(3):
            stepper.submit(Request([13], 1), "a", unlucky)
            assert unlucky.end() == ("failed", "unlucky")
        stepper.submit(Request([2], 1), "b", other)
        assert other.end() == ("finished", [3])


def test_a_step_that_fails_ends_what_was_in_it_and_the_next_is_computed() -> None:
    lost, other = Listener(), Listener()
    with stepping() as (engine, stepper):
        stepper.submit(Request([1], 5), "a", lost)
        engine.next()
        engine.failing = True
        engine.open()
        assert lost.end() == ("failed", "out of memory")
        assert [answer.request.prompt_ids for answer in engine.left] == [[1]]
        stepper.submit(Request([2], 1), "b", other)
        engine.open()
        assert other.end() == ("finished", [3])


def test_stopping_ends_all_of_that_name_with_what_they_have() -> None:
    callers = [Listener() for _ in range(3)]
    with stepping() as (engine, stepper):
        for name, caller in zip("aab", callers, strict=True):
            stepper.submit(Request([1], 100), name, caller)
        engine.next()
        stepper.stop("a")
        engine.open()
        told = [caller.end() for caller in callers[:2]]
        # The first alone may have been in the step that was under way.
        assert [what for what, _ in told] == ["stopped", "stopped"]
        assert told[0][1] == [2]
        assert len(engine.left) == 2


def test_who_is_left_by_its_caller_is_computed_no_further() -> None:
    gone, other = Listener(), Listener()
    with stepping() as (engine, stepper):
        stepper.submit(Request([1], 10**6), "a", gone)
        gone.gone = True
        engine.open(10**6)
        assert gone.end()[0] == "stopped"
        stepper.submit(Request([2], 1), "b", other)
        assert other.end() == ("finished", [3])


def test_a_caller_that_cannot_be_told_harms_no_other() -> None:
    deaf, other = Listener(fails_to_listen=True), Listener()
    with stepping() as (engine, stepper):
        stepper.submit(Request([1], 2), "a", deaf)
        stepper.submit(Request([2], 2), "b", other)
        engine.open(100)
        assert deaf.end() == ("failed", "the sender is gone")
        assert other.end() == ("finished", [3, 4])


def test_closing_fails_what_is_left() -> None:
    caller = Listener()
    with stepping() as (engine, stepper):
        stepper.submit(Request([1], 10**6), "a", caller)
        engine.next()
    assert caller.end() == ("failed", "the engine is shutting down")
