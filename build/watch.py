"""Watching one server from outside until it fails: its processes, and whether real tags come.

Triton's ready flag is not asked. It stays true when the stub of a model has died, and every request of that model fails from then on. The
figures below decide how soon a failure is found; docs/serving.md says what follows from them.
"""

import contextlib
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from build.errors import OverloadedError, ServerError

INTERVAL_S = 1.0
"""From the beginning of one probe to the beginning of the next; a probe that takes longer is followed at once."""
FAILED_PROBES = 3
"""So many in a row, and the server has failed."""

_STUB = "triton_python_backend_stub"[:15]
"""As far as the kernel keeps the name of a program."""


@dataclass(frozen=True)
class Stub:
    """A process that runs a model's Python code for the server."""

    pid: int
    name: str
    has_ended: bool


def until_failure(server_pid: int, probe: Callable[[], object], requests_done: Callable[[], int | None]) -> str:
    """Block until the server has failed, and say how, in a few words.

    A process that ends is seen at once. One that hangs is seen by the probes. A server that has too much to do refuses probes as it refuses
    others, or is late; that is no failure while its engine gets work done.

    Args:
        server_pid: tritonserver, whose stubs are its children; all of them are running already.
        probe: asks for a tag; raises OverloadedError or another ServerError if none comes within about a second.
        requests_done: how many requests the engine has done, None if that cannot be told.

    Raises:
        OSError: Linux is older than 5.3 and cannot tell when a process ends.
    """
    with contextlib.ExitStack() as held:
        names: dict[int, str] = {}
        for pid, name in [(server_pid, "tritonserver"), *((stub.pid, stub.name) for stub in stubs_of(server_pid))]:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return f"{name} has ended"
            held.callback(os.close, descriptor)
            names[descriptor] = name
        failures, wait_s = 0, INTERVAL_S
        before: int | None = None
        while True:
            ended, _, _ = select.select(names, [], [], wait_s)
            if ended:
                return " and ".join(f"{names[each]} has ended" for each in ended)
            started_s = time.monotonic()
            try:
                probe()
                failures, before = 0, None
            except ServerError as error:
                now = requests_done()
                works = isinstance(error, OverloadedError) and now is not None and before is not None and now > before
                failures = 1 if works else failures + 1
                # With too much to do the count may come too late, too: then it is compared with the one before that.
                before = before if now is None else now
                if failures == FAILED_PROBES:
                    return f"no tag came back {FAILED_PROBES} times in a row, at last because: {error}"
            wait_s = max(started_s + INTERVAL_S - time.monotonic(), 0)


def stubs_of(server_pid: int) -> list[Stub]:
    """The Python backend stubs of a tritonserver, among them those that have ended: it does not ask what became of them.

    A stub is a child of the server and has the path of a model's code as its first argument (seen in the processes of tritonserver 2.51).
    """
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it is gone meanwhile
                # The name stands in parentheses and may itself have some, and spaces: proc(5).
                name, _, rest = (folder / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                if int(parent) == server_pid and name == _STUB:
                    words = (folder / "cmdline").read_text(errors="replace").split("\0")
                    model = Path(words[1]).parent.parent.name if len(words) > 1 else "a model"  # what has ended has no words left
                    found.append(Stub(int(folder.name), f"the stub of {model}", state == "Z"))
    return found
