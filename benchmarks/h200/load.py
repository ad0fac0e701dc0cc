"""Closed-loop load: so many callers, each asking again as soon as it has its answer, spread over processes that share nothing.

An asker is made in the process that uses it; its `ask` is timed. Processes, because one Python process with many threads would measure
itself.
"""

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MAX_PROCESSES = 4
_MOST_PER_CALLER_AND_S = 400
_HEAD_START_S = 0.5
"""Until then every process has got its share."""


@dataclass(frozen=True)
class Item:
    """One question, in both forms."""

    pika_response: str
    ids: tuple[int, ...]
    """The whole prompt as tokens."""


class Asker(Protocol):
    """Something that can be asked by several threads at once. It travels to other processes, so it holds values only."""

    def open(self) -> AbstractContextManager[Any]:
        """A connection, made once in each thread."""

    def ask(self, connection: Any, item: Item) -> None:
        """Ask and wait for the answer; raises if it is not one."""


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """The processes, for any number of measurements."""
    with ProcessPoolExecutor(MAX_PROCESSES, multiprocessing.get_context("spawn")) as pool:
        yield pool


def measure(
    pool: ProcessPoolExecutor, asker: Asker, items: Iterator[Item], concurrency: int, duration_s: float, most_per_s: int
) -> dict[str, float]:
    """Ask for a while.

    Args:
        pool: from `workers`.
        asker: what is asked.
        items: questions.
        concurrency: callers.
        duration_s: for so long; the first request of every caller is not counted.
        most_per_s: answers of all callers together; questions are taken for so many.

    Returns:
        p50_ms, p95_ms, p99_ms, mean_ms, requests_per_s, n_requests, concurrency.
    """
    n_processes = min(concurrency, MAX_PROCESSES)
    shares = [concurrency // n_processes + (i < concurrency % n_processes) for i in range(n_processes)]
    n_each = int(min(_MOST_PER_CALLER_AND_S, most_per_s / concurrency) * duration_s) + 2
    start_at = time.perf_counter() + _HEAD_START_S
    jobs = [
        pool.submit(_share, asker, [[next(items) for _ in range(n_each)] for _ in range(threads)], start_at, duration_s)
        for threads in shares
    ]
    times = np.concatenate([job.result() for job in jobs])
    p50, p95, p99 = np.percentile(times * 1000, [50, 95, 99])
    return {
        "concurrency": concurrency,
        "n_requests": times.size,
        "requests_per_s": times.size / duration_s,
        "mean_ms": float(times.mean() * 1000),
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
    }


def _share(asker: Asker, items: Sequence[Sequence[Item]], start_at: float, duration_s: float) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """What one process does; the clock is the machine's, so all of them begin together. Seconds of each request that ended in time."""
    times: list[float] = []
    failures: list[Exception] = []

    def call(own: Sequence[Item]) -> None:
        try:
            with asker.open() as connection:
                asker.ask(connection, own[0])
                time.sleep(max(0.0, start_at - time.perf_counter()))
                end_at = max(start_at, time.perf_counter()) + duration_s
                for item in own[1:]:
                    began = time.perf_counter()
                    asker.ask(connection, item)
                    ended = time.perf_counter()
                    if ended > end_at:
                        return
                    times.append(ended - began)
                raise RuntimeError("there were not enough questions: raise most_per_s")
        except Exception as error:  # told by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=call, args=(own,)) for own in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return np.array(times)
