"""Who may use the engine when: tags at once, generations one step each in turn.

The engine does one thing at a time. A tag (one token with its logits) runs on a sequence of its own, on the thread that asks, which holds
all generations from the end of the step that is under way until the answer is on its way. Longer generations share a fixed number of
sequences and one thread, which gives each of them a step in turn; those that find no sequence free wait, and more than may wait are
refused. Nothing here knows Triton.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from cpu_engine import CpuEngine, KvSequence
from engine_request import BusyError, Request
from generation import Generation
from progress import CANCELLATION_CHECK_PERIOD_S, SWITCH_INTERVAL_S, Caller

PROMPT_PIECE_TOKENS = 16
"""So much of a prompt is one step of a generation: less than a tag's own pass, so that a tag never waits long for it."""


@dataclass(eq=False)
class _Job:
    request: Request
    name: str
    caller: Caller
    stop_asked: bool = False
    sequence: KvSequence | None = None
    generation: Generation | None = None


class Turns:
    """One at a time, and those who are urgent first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._urgent = 0
        self._taken = False

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Have the next turn."""
        with self._changed:
            self._urgent += 1
            self._changed.wait_for(lambda: not self._taken)
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._urgent -= 1
                self._taken = False
                self._changed.notify_all()

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Have a turn when nobody is urgent."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._taken or self._urgent))
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class Scheduler:
    """All generations of one engine."""

    def __init__(self, engine: CpuEngine, slots: int, max_waiting: int) -> None:
        """Start the thread.

        Args:
            engine: shared with nobody else.
            slots: how many generations progress together; each has a KV cache, and so has the tag's sequence besides.
            max_waiting: how many more may wait.
        """
        self._engine, self._slots, self._max_waiting = engine, slots, max_waiting
        self._for_tags = engine.new_sequence()
        self._free = [engine.new_sequence() for _ in range(slots)]
        self._turns = Turns()
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closing = False
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread = threading.Thread(target=self._work, name="generations", daemon=True)
        self._thread.start()

    def hold(self) -> AbstractContextManager[None]:
        """Let no generation step inside the block. It begins after the step that is under way."""
        return self._turns.urgent()

    def run_now(self, request: Request) -> Generation:
        """Serve a tag on the calling thread, which holds the generations.

        Raises:
            RuntimeError: ONNX Runtime failed.
        """
        generation = Generation(request, self._for_tags, self._engine)
        generation.run()
        return generation

    @property
    def idle(self) -> bool:
        """Whether no generation is under way or waits."""
        return not self._jobs

    def submit(self, request: Request, name: str, caller: Caller) -> None:
        """Let a generation join the others.

        Args:
            request: what to generate, checked.
            name: by which it can be stopped; need not be unique.
            caller: who is told.

        Raises:
            BusyError: as many wait as may.
        """
        with self._changed:
            if len(self._jobs) >= self._slots + self._max_waiting:
                raise BusyError(
                    f"{self._slots} generations are under way and {self._max_waiting} wait, which is max_queue_size: try again later"
                )
            self._jobs.append(_Job(request, name, caller))
            self._changed.notify()

    def stop(self, name: str) -> None:
        """Stop all generations of that name after the step that is under way; there may be none."""
        with self._changed:
            for job in self._jobs:
                job.stop_asked |= job.name == name

    def close(self) -> None:
        """Fail what is left and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        check_at = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closing)
                jobs = list(self._jobs)
            if self._closing:
                for job in jobs:
                    self._end(job)
                    job.caller.failed(BusyError("the engine is shutting down"))
                return
            now = time.monotonic()
            check = now >= check_at
            if check:
                check_at = now + CANCELLATION_CHECK_PERIOD_S
            for job in jobs:
                self._serve(job, check)

    def _serve(self, job: _Job, check_caller: bool) -> None:
        """Give a job its turn; whatever goes wrong ends this job and no other."""
        try:
            if job.stop_asked or (check_caller and job.caller.gave_up()):
                self._end(job)
                job.caller.stopped(job.generation)
                return
            if job.sequence is None and not self._free:
                return
            with self._turns.patient():
                generation = job.generation or self._begin(job)
                news = generation.step(PROMPT_PIECE_TOKENS)
            if generation.finished:
                self._end(job)
            if news:
                job.caller.advanced(generation)
        except Exception as error:  # the thread must outlive every request
            self._end(job)
            job.caller.failed(error)

    def _begin(self, job: _Job) -> Generation:
        job.sequence = max(self._free, key=lambda sequence: sequence.shared_tokens(job.request.prompt_ids))
        self._free.remove(job.sequence)
        job.generation = Generation(job.request, job.sequence, self._engine)
        return job.generation

    def _end(self, job: _Job) -> None:
        """Let go of what a job holds; the sequence that was used last comes last, so that the oldest is taken where none fits."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
        if job.sequence is not None:
            self._free.append(job.sequence)
            job.sequence = None
