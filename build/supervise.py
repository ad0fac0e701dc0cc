"""Keeping a server alive: one that has failed is ended and started again, after longer and longer pauses and not for ever.

How a failure is found is `watch`; this module knows when to start again and when to give up.
"""

import time
from collections.abc import Callable
from typing import NoReturn, Protocol

from build.errors import ServerError

PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Before the first restart, the second and so on. There is none after the last."""
STEADY_S = 60.0
"""A server that has given tags for this long gets all restarts anew."""


class Supervised(Protocol):
    """A server, as far as it matters here; `serve.Server` is one."""

    @property
    def has_crashed(self) -> bool:
        """Whether a signal ended it."""

    def wait_until_ready(self, timeout_s: float) -> None:
        """Raise ServerError if it gives no tags in time."""

    def wait_until_failure(self) -> str:
        """Block until it has failed, and say how."""

    def kill(self) -> None:
        """End it at once, whatever state it is in."""

    def log_tail(self) -> str:
        """Where its log is, and the end of that."""


def supervise(launch: Callable[[], Supervised], say: Callable[[str], None], ready: str, start_timeout_s: float) -> NoReturn:
    """Keep a server running until this process is interrupted.

    Args:
        launch: starts one. Those of before have ended by then.
        say: tells the operator one line.
        ready: what to say each time that tags come.
        start_timeout_s: how long one may take until they come.

    Raises:
        ServerError: the first server gave no tags or gave up by itself, which would not be better the next time; or no restart is left.
            The message names the log.
    """
    restarts, has_been_ready = 0, False
    while True:
        server = launch()
        try:
            server.wait_until_ready(start_timeout_s)
            has_been_ready = True
            say(ready)
            ready_s = time.monotonic()
            reason = server.wait_until_failure()
            if time.monotonic() - ready_s >= STEADY_S:
                restarts = 0
        except ServerError as error:
            if not (has_been_ready or server.has_crashed):
                raise
            # The end of the log is not for the terminal.
            reason = str(error).splitlines()[0].removesuffix(server.log_tail().partition("\n")[0])
        server.kill()
        if restarts == len(PAUSES_S):
            raise ServerError(f"tritonserver was started again {restarts} times and failed again: {reason}{server.log_tail()}")
        pause_s = PAUSES_S[restarts]
        restarts += 1
        say(f"{reason}; starting again in {pause_s:.0f} s ({restarts} of {len(PAUSES_S)})")
        time.sleep(pause_s)
