"""Starting, stopping, interrupting and not starting at all."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from build import ROOT
from build.errors import ManifestError, ServerError
from build.ports import free_ports
from build.serve import running
from pika_tagger import TaggerClient
from tests.e2e.conftest import doit

pytestmark = pytest.mark.e2e

PATIENCE_S = 60.0


def descendants_of_session(marker: str) -> list[str]:
    """Command lines of living processes that mention the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if marker in command:
                found.append(command)
    return found


def wait_until_gone(marker: str) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while descendants_of_session(marker):
        assert time.monotonic() < give_up, descendants_of_session(marker)
        time.sleep(0.2)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(repository: Path, how: signal.Signals) -> None:
    ports = free_ports()
    settings = [f"{name}={port}" for name, port in vars(ports).items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", *settings, "serve"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with TaggerClient(f"127.0.0.1:{ports.grpc_port}") as client:
        client.wait_until_ready(timeout_s=PATIENCE_S)
    marker = f"--grpc-port={ports.grpc_port}"
    assert descendants_of_session(marker)
    os.kill(process.pid, how)
    process.wait(PATIENCE_S)
    wait_until_gone(marker)


def test_a_taken_port_is_named_with_its_setting(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = doit(f"http_port={port}", f"grpc_port={free_ports().grpc_port}", "serve")
    assert done.returncode != 0
    assert f"port {port} cannot be used" in done.stdout + done.stderr
    assert "http_port=NUMBER" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_second_run_rebuilds_nothing(repository: Path) -> None:
    done = doit()
    assert done.returncode == 0
    steps = [line for line in done.stdout.splitlines() if line.strip()]
    assert steps
    assert all(line.startswith("-- ") for line in steps), done.stdout


def test_a_changed_repository_is_not_served(repository: Path, tmp_path: Path) -> None:
    task = repository / "tagger" / "1" / "task.toml"
    original = task.read_bytes()
    try:
        task.write_bytes(original.replace(b"0.", b"1.", 1))
        with pytest.raises(ManifestError, match=r"task\.toml"), running(repository, free_ports(), None):
            pass
    finally:
        task.write_bytes(original)


def test_a_server_that_cannot_load_says_why(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = tmp_path / "repository" / "tagger"
    tagger.mkdir(parents=True)
    (tagger / "config.pbtxt").write_text('name: "tagger" backend: "of-nobody"')
    monkeypatch.setattr("build.manifest.verify_contents", lambda _: None)
    with (
        running(tagger.parent, free_ports(), tmp_path / "log") as server,
        pytest.raises(ServerError, match=r"no tag came back|stopped with status"),
    ):
        server.wait_until_ready(timeout_s=5)
