"""Threads that make the calls of the blocking client, so that whoever waits for an answer may stop waiting.

gRPC has a way of its own to call without waiting, `future`, which starts a thread whenever no other call is under way; handing a call to a
thread that is there already costs less than half of that (`benchmarks/client_overhead.py`). A `ThreadPoolExecutor` would hand over as fast,
but it makes the end of the interpreter wait for the last call.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

_SPARE_THREADS = 8
_END_S = 1.0
"""The end waits so long for threads whose calls have just been cancelled, which takes a few milliseconds."""


class Callers:
    """As many daemon threads as there are calls under way; a few of them stay when their calls have ended."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Reentrant, because the garbage collector may end these callers in the midst of whatever one of their own threads does.
        self._lock = threading.RLock()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._ended = False

    def take(self, call: Callable[[], None]) -> None:
        """Make `call` in one of the threads, at once.

        Raises:
            RuntimeError: `end` has been called, or the process can have no more threads.
        """
        with self._lock:
            if self._ended:
                raise RuntimeError("these callers have ended")
            if self._idle:
                self._idle -= 1
            else:
                thread = threading.Thread(target=self._work, name="pika-tagger", daemon=True)
                thread.start()
                self._threads.add(thread)
        self._calls.put(call)

    def end(self) -> None:
        """Take no more calls, and wait for the threads; what is under way has to be cancelled before."""
        with self._lock:
            self._ended = True
            threads = self._threads - {threading.current_thread()}
        for _ in threads:
            self._calls.put(None)
        give_up_s = time.monotonic() + _END_S
        for thread in threads:
            thread.join(max(give_up_s - time.monotonic(), 0.0))

    def _work(self) -> None:
        try:
            while (call := self._calls.get()) is not None:
                call()
                del call  # or the client would live as long as this thread
                with self._lock:
                    if self._ended or self._idle == _SPARE_THREADS:
                        return
                    self._idle += 1
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
