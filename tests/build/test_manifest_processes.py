"""What other processes see and leave: a killed one, and one that works on the same folder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build import ROOT, manifest
from build.manifest import Manifest

WORKER = """
import os, sys, time
from pathlib import Path
from build import manifest

def hang(*_):
    print("hanging", flush=True)
    time.sleep(600)

in_body = lambda: None
{change}
final = Path(sys.argv[1])
with manifest.new_folder(final, "test", {{}}, {{}}, {{}}) as draft:
    print("valid before" if manifest.is_valid(final) else "nothing before", flush=True)
    (draft.path / "from_worker.txt").write_text("by another process")
    in_body()
"""


def make(final: Path) -> Manifest:
    with manifest.new_folder(final, "test", {}, {}, {}) as draft:
        (draft.path / "a.txt").write_text("by this process")
    return manifest.read(final)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@contextmanager
def worker(final: Path, change: str) -> Iterator["subprocess.Popen[str]"]:
    script = WORKER.format(change=change)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(final)], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("change", ["in_body = hang", "os.fsync = hang", "manifest._replace = hang"])
def test_a_killed_process_leaves_no_valid_folder_and_the_next_run_succeeds(tmp_path: Path, change: str, older: bool) -> None:
    old = make(tmp_path / "out") if older else None
    with worker(tmp_path / "out", change) as process:
        assert line_of(process) == ("valid before" if older else "nothing before")
        assert line_of(process) == "hanging"
        process.kill()
        assert process.wait() < 0
    assert manifest.is_valid(tmp_path / "out") is older
    assert not older or manifest.verify_contents(tmp_path / "out") == old
    assert make(tmp_path / "out").files.keys() == {"a.txt"}
    assert visible(tmp_path) == ["out"]


def test_a_process_killed_while_the_folders_change_places_leaves_none(tmp_path: Path) -> None:
    make(tmp_path / "out")
    change = "rename = Path.rename; Path.rename = lambda self, to: rename(self, to) if to.name == '.out.old' else hang()"
    with worker(tmp_path / "out", change) as process:
        assert [line_of(process), line_of(process)] == ["valid before", "hanging"]
    assert not manifest.is_valid(tmp_path / "out")
    assert make(tmp_path / "out").files.keys() == {"a.txt"}
    assert visible(tmp_path) == ["out"]


def test_a_second_worker_waits_for_the_first(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with worker(final, "in_body = sys.stdin.readline") as first:
        assert line_of(first) == "nothing before"  # it has the lock, and keeps it until it is told to go on
        with worker(final, "") as second:
            assert line_of(second) == f"another process is making {final}; waiting for it"
            assert second.poll() is None
            first.communicate("go on\n")
            assert line_of(second) == "valid before"
            assert (first.wait(), second.wait()) == (0, 0)
    assert manifest.verify_contents(final).files.keys() == {"from_worker.txt"}
