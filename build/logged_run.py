"""Long commands of other tools: output in a file that is kept, a sign of life on the terminal, and the end of the log if they fail."""

import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from build import build_causes
from build.errors import EngineError

HEARTBEAT_S = 15.0
_STOP_TIMEOUT_S = 15.0
_SHOWN_LINES = 15
_SEARCHED_LINES = 200
_SHOWN_CHARACTERS = 100


def run(what: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a command to its end.

    Args:
        what: what the command is, as the subject of a sentence.
        arguments: the command line.
        log: where its output goes; an older file is replaced.
        environment: instead of the present one.

    Raises:
        EngineError: the command failed; the message has the end of its log, what is likely to be the cause, and the command.
    """
    started = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
        try:
            while (status := _wait(process)) is None:
                print(f"{time.monotonic() - started:.0f} s, still at it: {_last_line(log)}", flush=True)
        except BaseException:
            _stop(process)
            raise
    if status != 0:
        lines = log.read_text(errors="replace").splitlines()
        cause = build_causes.likely(status, lines[-_SEARCHED_LINES:])
        likely = [f"Likely cause: {cause}"] if cause else []
        raise EngineError(
            "\n".join(
                [
                    f"{what} ended with status {status}. The end of {log}:",
                    *lines[-_SHOWN_LINES:],
                    *likely,
                    f"Command: {shlex.join(arguments)}",
                ]
            )
        )


def _wait(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(HEARTBEAT_S)
    except subprocess.TimeoutExpired:
        return None


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line[:_SHOWN_CHARACTERS] for line in reversed(lines) if line.strip()), "no output yet")
