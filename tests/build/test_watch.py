"""A server has failed when one of its processes has ended, or when no tags come and its engine does nothing either."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from build import watch
from build.errors import OverloadedError, ServerError

# Stands for tritonserver: starts a child that is no stub and one that is, says its number, and does not ask what becomes of them.
SERVER = """
import subprocess, sys, time
subprocess.Popen(["sleep", "60"])
print(subprocess.Popen(sys.argv[1:]).pid, flush=True)
time.sleep(60)
"""


@dataclass(frozen=True)
class Running:
    """A server and its stub."""

    pid: int
    stub_pid: int


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    stub, code = tmp_path / "triton_python_backend_stub", tmp_path / "my (model)" / "1" / "model.py"
    stub.symlink_to(shutil.which("tail") or "")
    code.parent.mkdir(parents=True)
    code.touch()
    line = [sys.executable, "-c", SERVER, str(stub), str(code), "-f"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield Running(process.pid, int(process.stdout.readline()))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL_S", 0.01)


class Probe:
    """Answers as it is told, in turn: None is a tag. When nothing is left to say, the server ends, so that no test waits for ever."""

    def __init__(self, running: Running, answers: list[Exception | None]) -> None:
        self.running, self.answers, self.asked = running, answers, 0

    def __call__(self) -> None:
        self.asked += 1
        if not self.answers:
            os.kill(self.running.pid, signal.SIGKILL)
        elif (answer := self.answers.pop(0)) is not None:
            raise answer


def counting(*numbers: int | None) -> Callable[[], int | None]:
    """What the engine says that it has done, in turn, and the last number from then on."""
    left = list(numbers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


FAILED, BUSY = ServerError("the engine failed"), OverloadedError("the queue is full")


def test_stubs_are_found_with_the_names_of_their_models(running: Running) -> None:
    assert watch.stubs_of(running.pid) == [watch.Stub(running.stub_pid, "the stub of my (model)", has_ended=False)]
    assert watch.stubs_of(running.stub_pid) == []


def test_the_end_of_a_stub_is_seen_and_named(running: Running) -> None:
    assert (
        watch.until_failure(running.pid, lambda: os.kill(running.stub_pid, signal.SIGKILL), counting(0))
        == "the stub of my (model) has ended"
    )


def test_a_stub_that_ended_before_anybody_looked_is_seen(running: Running) -> None:
    watch.until_failure(running.pid, lambda: os.kill(running.stub_pid, signal.SIGKILL), counting(0))
    assert [stub.has_ended for stub in watch.stubs_of(running.pid)] == [True]
    probe = Probe(running, [])
    assert watch.until_failure(running.pid, probe, counting(0)) == "the stub of a model has ended"
    assert probe.asked == 0


def test_the_end_of_the_server_is_seen(running: Running) -> None:
    assert watch.until_failure(running.pid, Probe(running, [None, None]), counting(0)) == "tritonserver has ended"


def test_tags_that_do_not_come_are_a_failure_the_third_time_in_a_row(running: Running) -> None:
    probe = Probe(running, [FAILED, FAILED, None, FAILED, FAILED, FAILED])
    assert watch.until_failure(running.pid, probe, counting(0)) == "no tag came back 3 times in a row, at last because: the engine failed"
    assert probe.asked == 6


@pytest.mark.parametrize(
    ("answer", "done", "asked"),
    [
        (BUSY, counting(5), 3),  # its engine does nothing
        (BUSY, counting(None), 3),
        (BUSY, counting(5, 6, 7, 8, 8), 6),  # it does, for a while
        (BUSY, counting(5, None, 6, None, 7, 7), 7),  # and does not always say so in time
        (FAILED, counting(5, 6, 7, 8, 9), 3),  # others have it compute, but tags fail
    ],
)
def test_a_busy_server_has_not_failed_while_its_engine_gets_work_done(
    running: Running, answer: Exception, done: Callable[[], int | None], asked: int
) -> None:
    probe = Probe(running, [answer] * 20)
    assert str(answer) in watch.until_failure(running.pid, probe, done)
    assert probe.asked == asked


@pytest.mark.parametrize("done", [counting(5, 6, 6), counting(5, None, 6, 6)])
def test_work_of_long_ago_does_not_excuse_a_busy_server(running: Running, done: Callable[[], int | None]) -> None:
    probe = Probe(running, [BUSY, None, BUSY, BUSY, BUSY])
    assert "the queue is full" in watch.until_failure(running.pid, probe, done)
    assert probe.asked == 5
