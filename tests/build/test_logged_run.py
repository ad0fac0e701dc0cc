"""Output goes to a file, silence is broken now and then, and nothing outlives an interruption."""

import os
import sys
from pathlib import Path

import pytest

from build import logged_run
from build.errors import EngineError

SLOW = "import time; print('step 1', flush=True); time.sleep(1.5); print('step 2')"


def test_a_sign_of_life_says_what_the_log_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logged_run, "HEARTBEAT_S", 0.1)
    logged_run.run("it", [sys.executable, "-c", SLOW], tmp_path / "log")
    signs = capsys.readouterr().out.splitlines()
    assert any(line.endswith("s, still at it: step 1") for line in signs)
    assert (tmp_path / "log").read_text() == "step 1\nstep 2\n"


def test_a_short_command_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logged_run.run("it", [sys.executable, "-c", "print('done')"], tmp_path / "log")
    assert capsys.readouterr().out == ""


def test_a_failure_has_the_end_of_the_log_the_likely_cause_and_the_command(tmp_path: Path) -> None:
    script = "print(*range(50), sep='\\n', flush=True); raise SystemExit('OSError: [Errno 28] No space left on device')"
    with pytest.raises(EngineError) as caught:
        logged_run.run("it", [sys.executable, "-c", script], tmp_path / "log")
    first, *tail, cause, command = str(caught.value).splitlines()
    assert first == f"it ended with status 1. The end of {tmp_path / 'log'}:"
    assert tail == [*(str(number) for number in range(36, 50)), "OSError: [Errno 28] No space left on device"]
    assert cause.startswith("Likely cause: the disk is full")
    assert command.startswith(f"Command: {sys.executable} -c ")


def test_without_a_known_cause_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        logged_run.run("it", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")
    assert "Likely cause" not in str(caught.value)


def test_an_interrupted_command_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); print('up', flush=True); time.sleep(600)"

    def interrupted(log: Path) -> str:
        if "up" in log.read_text():
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(logged_run, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(logged_run, "_last_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logged_run.run("it", [sys.executable, "-c", script], tmp_path / "log")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
