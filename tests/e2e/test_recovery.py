"""`doit serve` with processes killed and stopped under it: nothing half-alive goes on, tags come back by themselves, stopping loses none.

That a failure is found within seconds follows from the figures in build/watch.py; here is seen that it is found at all.
"""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from build import ROOT, health, triton, watch
from build.ports import free_ports
from build.server_options import Access
from build.settings import Ports
from pika_tagger import ServerBusyError, TaggerClient, TaggerError
from tests.e2e.conftest import MODEL, slow

pytestmark = pytest.mark.e2e

PATIENCE_S = 60.0
THREADS = 4
FLOOD_S = 20.0


def wait_until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@dataclass(frozen=True)
class Served:
    """`doit serve`, and what it prints."""

    process: "subprocess.Popen[bytes]"
    ports: Ports
    output: Path

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.ports.grpc_port}"

    def server_pid(self) -> int:
        """The tritonserver that runs now."""
        marker, found = f"--grpc-port={self.ports.grpc_port}".encode(), []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            words = read(path).split(b"\0")
            if words[0].endswith(b"/tritonserver") and marker in words:
                found.append(int(path.parent.name))
        (pid,) = found
        return pid

    def times_ready(self) -> int:
        return self.output.read_text().count(" ready: ")

    def calls_itself_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.http_port}/v2/health/ready", timeout=PATIENCE_S):
                return True
        except OSError:
            return False


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def in_shared_memory(server_pid: int) -> set[str]:
    """Names of the regions of a running server."""
    maps = Path(f"/proc/{server_pid}/maps").read_text()
    return set(re.findall(r"/dev/shm/(pika-\S+)", maps))


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    ports, output = free_ports(), tmp_path_factory.mktemp("served") / "output"
    settings = [f"{name}={port}" for name, port in vars(ports).items()]
    with output.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", "doit", *settings, "serve"], cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
    made = Served(process, ports, output)
    try:
        wait_until(lambda: made.times_ready() == 1 or process.poll() is not None)
        yield made
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_the_engines_work_is_counted_whoever_asked_for_it(served: Served) -> None:
    before = health.requests_done(Access(), served.ports)
    assert before is not None
    with TaggerClient(served.url, budget_ms=math.inf, on_failure="raise") as client:
        for _ in range(3):
            client.health()
    after = health.requests_done(Access(), served.ports)
    assert after is not None
    assert after >= before + 3


@slow
def test_a_server_with_too_much_to_do_is_left_alone(served: Served) -> None:
    # Probes are refused like nearly all others, for several times as long as it takes to find a failure.
    end_s = time.monotonic() + FLOOD_S

    def ask(_: int) -> tuple[int, int]:
        answered = refused = 0
        with TaggerClient(served.url, timeout_s=PATIENCE_S, budget_ms=math.inf, on_failure="raise") as client:
            while time.monotonic() < end_s:
                try:
                    client.tag(user_last_message="2+2=4", pika_response="Chính xác!", strategy="json")
                    answered += 1
                except ServerBusyError:
                    refused += 1
        return answered, refused

    server_pid = served.server_pid()
    with ThreadPoolExecutor(100) as callers:
        answered, refused = map(sum, zip(*callers.map(ask, range(100)), strict=True))
    assert refused > answered > 0
    assert served.server_pid() == server_pid
    assert served.times_ready() == 1


def victim(served: Served, name: str) -> int:
    """Process id of the server, or of the stub of a model."""
    pid = served.server_pid()
    return pid if name == "tritonserver" else next(stub.pid for stub in watch.stubs_of(pid) if stub.name == f"the stub of {name}")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("tensorrt_llm", signal.SIGKILL),
        ("tritonserver", signal.SIGKILL),
        pytest.param("tensorrt_llm", signal.SIGSTOP, marks=slow),
        pytest.param("tagger", signal.SIGKILL, marks=slow),
    ],
)
def test_what_is_half_alive_goes_away_and_tags_come_back(served: Served, name: str, how: signal.Signals) -> None:
    server_pid, ready_before = served.server_pid(), served.times_ready()
    left_behind = in_shared_memory(server_pid)
    assert left_behind
    os.kill(victim(served, name), how)
    wait_until(lambda: not served.calls_itself_ready())
    wait_until(lambda: served.times_ready() == ready_before + 1)
    assert served.server_pid() != server_pid
    with TaggerClient(served.url, budget_ms=math.inf, on_failure="raise") as client:
        assert client.tag(user_last_message="2+2=4", pika_response="Chính xác! Cậu giỏi quá!").celebrate
    words = (
        "no tag came back 3 times in a row"
        if how == signal.SIGSTOP
        else "tritonserver has ended"
        if name == "tritonserver"
        else f"the stub of {name} has ended"
    )
    assert words in served.output.read_text()
    assert not left_behind & {path.name for path in Path("/dev/shm").iterdir()}
    assert (MODEL.folder / "serve.log").read_text(errors="replace").count("Started GRPCInferenceService") == ready_before + 1


def test_tags_that_have_begun_are_answered_when_it_is_told_to_stop(served: Served) -> None:
    answered: list[tuple[float, float]] = []
    refused: list[TaggerError] = []

    def ask_until_refused() -> None:
        with TaggerClient(served.url, timeout_s=PATIENCE_S, budget_ms=math.inf, on_failure="raise") as client:
            while True:
                begun_s = time.monotonic()
                try:
                    # Several passes: were the server just told to stop, the next one would be an error.
                    client.tag(user_last_message="2+2=4", pika_response="Chính xác!", strategy="json")
                except TaggerError as error:
                    refused.append(error)
                    return
                answered.append((begun_s, time.monotonic()))

    threads = [threading.Thread(target=ask_until_refused) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answered) > 5 * THREADS or refused)
    told_s = time.monotonic()
    served.process.terminate()
    for thread in threads:
        thread.join()
    assert [begun_s for begun_s, ended_s in answered if begun_s < told_s < ended_s]
    assert [(error.status, "the server is stopping" in str(error)) for error in refused] == [("UNAVAILABLE", True)] * THREADS
    assert served.process.wait(PATIENCE_S) == 0
    assert not served.calls_itself_ready()


def test_a_container_ends_when_its_server_is_half_alive(repository: Path, tmp_path: Path) -> None:
    installed, ports = triton.installation(), free_ports()
    triton.make_backends(installed, tmp_path)
    command = triton.command(installed, tmp_path, repository, ports, Access())
    line = [sys.executable, "-m", "build.serve_container", *command]
    environment = triton.environment(installed, tmp_path) | {"PYTHONPATH": str(ROOT / "client")}
    output = tmp_path / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        with TaggerClient(f"127.0.0.1:{ports.grpc_port}", budget_ms=math.inf, on_failure="raise") as client:
            client.wait_until_ready(PATIENCE_S)
        os.kill(victim(Served(process, ports, output), "tensorrt_llm"), signal.SIGKILL)
        assert process.wait(PATIENCE_S) == 1
    finally:
        process.kill()
        process.wait()
        for left in triton.shared_memory(tmp_path):  # a container's own goes with it
            left.unlink()
    last = output.read_text(errors="replace").splitlines()[-1]
    assert last.startswith("error: the stub of ")
    assert last.endswith("; docker starts the container again")
