"""Generations take turns, tags go first, memory is bounded, and one that fails or is left harms no other."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Queue

import pytest

from cpu_engine import CpuEngine
from engine_request import BusyError, Request
from progress import Progress
from scheduler import PROMPT_PIECE_TOKENS, Scheduler
from tests.support.rule_engine import rule_engine

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@contextmanager
def scheduler_on(engine: CpuEngine, slots: int = 2, max_waiting: int = 4) -> Iterator[Scheduler]:
    scheduler = Scheduler(engine, slots, max_waiting)
    try:
        yield scheduler
    finally:
        scheduler.close()


class Listener:
    """A caller that keeps what it is told."""

    def __init__(self) -> None:
        self.events: Queue[tuple[str, object]] = Queue()
        self.left = False

    def advanced(self, generation: Progress) -> None:
        self.events.put(("finished" if generation.finished else "token", list(generation.tokens)))

    def stopped(self, generation: Progress | None) -> None:
        self.events.put(("stopped", generation and list(generation.tokens)))

    def failed(self, error: Exception) -> None:
        self.events.put(("failed", error))

    def gave_up(self) -> bool:
        return self.left

    def end(self) -> tuple[str, object]:
        """The last event."""
        while (event := self.events.get(timeout=PATIENCE_S))[0] == "token":
            pass
        return event


class Gate:
    """Lets the engine compute one piece at a time."""

    def __init__(self) -> None:
        self.asked: Queue[list[int]] = Queue()
        self._go = threading.Semaphore(0)

    def __call__(self, ids: list[int]) -> None:
        self.asked.put(ids)
        assert self._go.acquire(timeout=PATIENCE_S)

    def next(self) -> list[int]:
        """What waits to be computed."""
        return self.asked.get(timeout=PATIENCE_S)

    def open(self, n: int = 1) -> None:
        self._go.release(n)


def test_generations_take_turns() -> None:
    gate, first, second = Gate(), Listener(), Listener()
    with scheduler_on(rule_engine(gate)) as scheduler:
        scheduler.submit(Request([1], 4), "a", first)
        assert gate.next() == [1]
        scheduler.submit(Request([8], 4), "b", second)
        gate.open(8)
        computed = [gate.next() for _ in range(7)]
        assert first.end() == ("finished", [2, 3, 4, 5])
        assert second.end() == ("finished", [9, 10, 11, 12])
    assert computed.index([8]) <= 1
    assert computed.index([9]) < computed.index([4])


def test_a_tag_waits_for_one_step_and_no_more() -> None:
    gate, listener = Gate(), Listener()
    with scheduler_on(rule_engine(gate)) as scheduler:
        scheduler.submit(Request([1], 9), "a", listener)
        scheduler.submit(Request([5], 9), "b", Listener())
        assert gate.next() in ([1], [5])
        asking, tagged = threading.Event(), Queue[list[int]]()

        def tag() -> None:
            asking.set()
            with scheduler.hold():
                tagged.put(scheduler.run_now(Request([12], 1, wants_logits=True)).tokens)

        thread = threading.Thread(target=tag)
        thread.start()
        assert asking.wait(PATIENCE_S)
        while not scheduler._turns._urgent:
            pass
        with pytest.raises(Empty):
            gate.asked.get(timeout=0.05)  # it waits for the step that is under way
        gate.open()
        assert gate.next() == [12]
        gate.open()
        assert tagged.get(timeout=PATIENCE_S) == [13]
        thread.join()
        gate.open(100)
        assert listener.end() == ("finished", list(range(2, 11)))


def test_nothing_steps_while_it_is_held() -> None:
    computed: list[list[int]] = []
    listener = Listener()
    with scheduler_on(rule_engine(computed.append)) as scheduler:
        with scheduler.hold():
            scheduler.submit(Request([1], 3), "a", listener)
            with pytest.raises(Empty):
                listener.events.get(timeout=0.1)
            assert computed == []
        assert listener.end() == ("finished", [2, 3, 4])


def test_a_long_prompt_is_taken_in_pieces_and_a_tags_is_not() -> None:
    computed: list[list[int]] = []
    listener = Listener()
    prompt = [i % 16 for i in range(2 * PROMPT_PIECE_TOKENS + 3)]
    with scheduler_on(rule_engine(computed.append)) as scheduler:
        scheduler.submit(Request(prompt, 1), "a", listener)
        listener.end()
        with scheduler.hold():
            scheduler.run_now(Request(prompt, 1, wants_logits=True))
    assert list(map(len, computed)) == [PROMPT_PIECE_TOKENS, PROMPT_PIECE_TOKENS, 3, len(prompt)]


def test_tags_keep_their_prefix_whatever_is_generated() -> None:
    listener = Listener()
    with scheduler_on(rule_engine(), slots=1) as scheduler:
        prompt = [3, 3, 3, 3, 5]
        with scheduler.hold():
            scheduler.run_now(Request(prompt, 1, wants_logits=True))
        scheduler.submit(Request([9, 9, 9], 3), "a", listener)
        listener.end()
        with scheduler.hold():
            assert scheduler.run_now(Request(prompt, 1, wants_logits=True)).reused_tokens == len(prompt) - 1


def test_a_generation_takes_the_sequence_that_knows_most_of_its_prompt() -> None:
    computed: list[list[int]] = []
    listener = Listener()
    with scheduler_on(rule_engine(computed.append), slots=3) as scheduler:
        for prompt in ([1, 1, 1, 1], [7, 7, 7, 7], [1, 1, 1, 2], [7, 7, 7, 3]):
            scheduler.submit(Request(prompt, 1), "a", listener)
            assert listener.end()[0] == "finished"
    assert computed == [[1, 1, 1, 1], [7, 7, 7, 7], [2], [3]]


def test_more_than_may_wait_are_refused_and_the_others_served() -> None:
    gate, listeners = Gate(), [Listener() for _ in range(3)]
    with scheduler_on(rule_engine(gate), slots=2, max_waiting=1) as scheduler:
        for listener in listeners:
            scheduler.submit(Request([1], 2), "a", listener)
        with pytest.raises(BusyError, match="2 generations are under way and 1 wait, which is max_queue_size"):
            scheduler.submit(Request([1], 2), "a", Listener())
        gate.open(100)
        assert [listener.end() for listener in listeners] == [("finished", [2, 3])] * 3
        scheduler.submit(Request([1], 2), "a", listeners[0])
        assert listeners[0].end() == ("finished", [2, 3])


def test_stopping_ends_all_of_that_name_with_what_they_have() -> None:
    gate, first, other, waiting = Gate(), Listener(), Listener(), Listener()
    with scheduler_on(rule_engine(gate), slots=2) as scheduler:
        scheduler.submit(Request([1], 300), "a", first)
        scheduler.submit(Request([4], 3), "b", other)
        scheduler.submit(Request([1], 300), "a", waiting)
        gate.open(2)
        gate.next(), gate.next(), gate.next()
        scheduler.stop("a")
        scheduler.stop("nobody")
        gate.open(100)
        kind, tokens = first.end()
        assert kind == "stopped"
        assert isinstance(tokens, list)
        assert 1 <= len(tokens) <= 3
        assert waiting.end() == ("stopped", None)
        assert other.end() == ("finished", [5, 6, 7])


def test_a_caller_that_has_left_frees_its_place() -> None:
    listener, after = Listener(), Listener()
    with scheduler_on(rule_engine(max_tokens=10**9), slots=1, max_waiting=1) as scheduler:
        scheduler.submit(Request([1], 10**8), "a", listener)
        scheduler.submit(Request([4], 2), "b", after)
        listener.events.get(timeout=PATIENCE_S)
        listener.left = True
        assert listener.end()[0] == "stopped"
        assert after.end() == ("finished", [5, 6])


def test_a_failure_ends_its_own_generation_only() -> None:
    def compute(ids: list[int]) -> None:
        if ids == [3]:
            raise RuntimeError("out of memory")

    broken, sound = Listener(), Listener()
    with scheduler_on(rule_engine(compute), slots=1) as scheduler:
        scheduler.submit(Request([1], 9), "a", broken)
        scheduler.submit(Request([8], 2), "b", sound)
        kind, error = broken.end()
        assert (kind, str(error)) == ("failed", "out of memory")
        assert sound.end() == ("finished", [9, 10])
        with pytest.raises(RuntimeError), scheduler.hold():
            scheduler.run_now(Request([3], 1, wants_logits=True))
        with scheduler.hold():
            assert scheduler.run_now(Request([4], 1, wants_logits=True)).tokens == [5]


def test_what_is_left_at_the_end_is_told_so() -> None:
    listener = Listener()
    with scheduler_on(rule_engine(max_tokens=10**9)) as scheduler:
        scheduler.submit(Request([1], 10**8), "a", listener)
        listener.events.get(timeout=PATIENCE_S)
    kind, error = listener.end()
    assert (kind, str(error)) == ("failed", "the engine is shutting down")
