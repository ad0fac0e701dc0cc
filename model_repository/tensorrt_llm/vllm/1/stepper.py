"""One thread that steps vLLM for all requests. Triton's thread hands them over and takes the next; whoever asked is told from here.

Between two steps requests join, are stopped, or are found to have nobody who waits for them. A step that fails ends what was in it and
nothing else. Nothing here knows Triton.
"""

import sys
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from answer import Answer
from engine_request import BusyError, Request
from progress import CANCELLATION_CHECK_PERIOD_S, SWITCH_INTERVAL_S, Caller


class Engine(Protocol):
    """What is stepped: `vllm_engine.VllmEngine`."""

    def begin(self, request: Request) -> Answer:
        """Let a request join the next step."""

    def step(self) -> list[Answer]:
        """Compute, and return what has come further."""

    def leave(self, answer: Answer) -> None:
        """Compute no more of it."""


@dataclass(eq=False)
class _Job:
    request: Request
    name: str
    caller: Caller
    answer: Answer | None = None


class Stepper:
    """All requests of one engine."""

    def __init__(self, engine: Engine, max_in_flight: int) -> None:
        """Start the thread.

        Args:
            engine: used by this thread alone from now on.
            max_in_flight: how many requests there may be at once, those that vLLM lets wait included.
        """
        self._engine, self._max_in_flight = engine, max_in_flight
        self._new: list[_Job] = []
        self._under_way: dict[Answer, _Job] = {}
        self._n_jobs = 0
        self._to_stop: list[str] = []
        self._changed = threading.Condition()
        self._closing = False
        self._check_at = 0.0
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread = threading.Thread(target=self._work, name="steps", daemon=True)
        self._thread.start()

    def submit(self, request: Request, name: str, caller: Caller) -> None:
        """Let a request join the others.

        Args:
            request: checked.
            name: by which it can be stopped; need not be unique.
            caller: who is told.

        Raises:
            BusyError: there are as many as may be.
        """
        with self._changed:
            if self._n_jobs >= self._max_in_flight:
                raise BusyError(f"{self._n_jobs} requests are under way or wait, which is max_num_seqs and max_queue_size: try again later")
            self._n_jobs += 1
            self._new.append(_Job(request, name, caller))
            self._changed.notify()

    def stop(self, name: str) -> None:
        """Stop all requests of that name after the step that is under way; there may be none."""
        with self._changed:
            self._to_stop.append(name)
            self._changed.notify()

    def close(self) -> None:
        """Fail what is left and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._new or self._under_way or self._to_stop or self._closing)
                new, self._new = self._new, []
                to_stop, self._to_stop = self._to_stop, []
            for job in new:
                self._begin(job)
            if self._closing:
                for job in list(self._under_way.values()):
                    self._end(job)
                    job.caller.failed(BusyError("the engine is shutting down"))
                return
            for job in self._unwanted(to_stop):
                self._end(job)
                job.caller.stopped(job.answer)
            if self._under_way:
                self._step()

    def _begin(self, job: _Job) -> None:
        try:
            job.answer = self._engine.begin(job.request)
        except Exception as error:  # the thread must outlive every request
            self._end(job)
            job.caller.failed(error)
        else:
            self._under_way[job.answer] = job

    def _unwanted(self, to_stop: list[str]) -> list[_Job]:
        found = [job for job in self._under_way.values() if job.name in to_stop]
        if (now := time.monotonic()) >= self._check_at:
            self._check_at = now + CANCELLATION_CHECK_PERIOD_S
            found += [job for job in self._under_way.values() if job not in found and job.caller.gave_up()]
        return found

    def _step(self) -> None:
        try:
            advanced = self._engine.step()
        except Exception as error:  # nobody can tell whose fault it was
            for job in list(self._under_way.values()):
                self._end(job)
                job.caller.failed(error)
            return
        for answer in advanced:
            job = self._under_way[answer]
            if answer.finished:
                self._end(job)
            try:
                job.caller.advanced(answer)
            except Exception as error:  # the others are still to be told
                if not answer.finished:
                    self._end(job)
                job.caller.failed(error)

    def _end(self, job: _Job) -> None:
        if job.answer is not None:
            self._engine.leave(job.answer)
            del self._under_way[job.answer]
        with self._changed:
            self._n_jobs -= 1
