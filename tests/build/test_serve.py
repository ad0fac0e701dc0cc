"""Ports are checked before the server starts, its end is told with its log, and it never listens to the outside."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from build import health, serve, settings, supervise, triton, watch
from build.errors import ManifestError, PortInUseError, ServerError, SettingError
from build.interrupts import interruptible, uninterrupted
from build.ports import check_ports, free_ports
from build.server_options import LOOPBACK, Access
from build.settings import Ports
from build.triton import Installation
from tests.support.checkout import Checkout

INSTALLED = Installation(Path("/triton/bin/tritonserver"), Path("/triton/python"), Path("/triton/stub"), (Path("/a"), Path("/b")))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


def test_free_ports_are_fine() -> None:
    check_ports(free_ports(), Access())


@pytest.mark.parametrize("name", ["grpc_port", "http_port", "metrics_port"])
def test_a_taken_port_is_refused_with_its_number_and_its_setting(taken: int, name: str) -> None:
    ports = replace(free_ports(), **{name: taken})
    with pytest.raises(PortInUseError) as caught:
        check_ports(ports, Access())
    assert str(caught.value) == f"port {taken} cannot be used (Address already in use): give another one with {name}=NUMBER"


def never_called(*_: object) -> None:
    raise AssertionError("the server was started")


def test_nothing_is_started_on_a_taken_port(place: Checkout, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = place.finished("triton-cpu", {"tagger/config.pbtxt": ""})
    monkeypatch.setattr(serve, "start_process", never_called)
    with pytest.raises(PortInUseError), serve.running(repository, replace(free_ports(), grpc_port=taken), None):
        never_called()


def test_nothing_is_started_on_a_repository_that_was_changed(place: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = place.finished("triton-cpu", {"tagger/config.pbtxt": "abc"})
    (repository / "tagger" / "config.pbtxt").write_text("xyz")
    monkeypatch.setattr(serve, "start_process", never_called)
    with pytest.raises(ManifestError, match="is not the file that"), serve.running(repository, free_ports(), None):
        never_called()


def test_an_address_of_another_machine_is_refused_before_the_start() -> None:
    # 240.0.0.0/4 is reserved, so no machine has it.
    with pytest.raises(
        SettingError, match=r"address=240\.0\.0\.1 is not one of this machine's: `ip address` lists them, 0\.0\.0\.0 is all"
    ):
        check_ports(free_ports(), Access("240.0.0.1"))


def test_the_server_listens_on_the_loopback_address_only() -> None:
    flags = triton.command(INSTALLED, Path("/tmp/abc"), Path("/repository"), Ports(1, 2, 3), Access())
    assert flags[:3] == ["/triton/bin/tritonserver", "--model-repository=/repository", "--backend-directory=/tmp/abc/backends"]
    for protocol, port in (("grpc", 1), ("http", 2), ("metrics", 3)):
        assert f"--{protocol}-address=127.0.0.1" in flags
        assert f"--{protocol}-port={port}" in flags
    assert {"--model-control-mode=none", "--exit-on-error=true"} <= set(flags)


def test_the_stub_finds_this_python_and_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    monkeypatch.setenv("PATH", "/bin")
    environment = triton.environment(INSTALLED, Path("/tmp/abc"))
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert environment["LD_LIBRARY_PATH"] == "/a:/b:/mine"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["PIKA_STOPPING_FILE"] == "/tmp/abc/stopping"  # the tagger's own name for it
    assert triton.environment(INSTALLED, Path("/tmp/abc"), Path("/vllm/bin"))["PATH"] == "/vllm/bin:/bin"
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert triton.environment(INSTALLED, Path("/tmp/abc"))["LD_LIBRARY_PATH"] == "/a:/b"


def test_a_backend_folder_holds_the_backend_and_the_stub(tmp_path: Path) -> None:
    backend = tmp_path / "installed" / "python"
    (backend / "__pycache__").mkdir(parents=True)
    for path in (backend / "libtriton_python.so", backend / "triton_python_backend_utils.py", tmp_path / "triton_python_backend_stub"):
        path.touch()
    triton.make_backends(Installation(Path("x"), backend, tmp_path / "triton_python_backend_stub", ()), tmp_path)
    made = {path.name: path.resolve() for path in (tmp_path / "backends" / "python").iterdir()}
    assert made.keys() == {"libtriton_python.so", "triton_python_backend_utils.py", "triton_python_backend_stub"}
    assert made["libtriton_python.so"] == backend / "libtriton_python.so"


def test_without_the_wheel_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match="nvidia-pytriton is not installed, so there is no tritonserver: run `make install`"):
        triton.installation()


def test_nothing_of_this_process_runs_in_the_new_one(tmp_path: Path) -> None:
    """What runs at a fork, as gRPC's handlers would, may be the end of a server that is not one yet."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(os.getpid()))
    log = tmp_path / "serve.log"
    with log.open("wb") as stream:
        started = serve.start_process(["sh", "-c", "echo $$"], dict(os.environ), stream)
    assert started.wait() == 0
    assert log.read_text() == f"{started.pid}\n"  # and no process stands between
    assert forks == []


def process(script: str, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as stream:
        return subprocess.Popen([sys.executable, "-c", script], stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)


def test_a_server_that_stops_while_starting_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    ended = process("print(*(f'line {i}' for i in range(100)), sep='\\n'); raise SystemExit(3)", log)
    ended.wait()
    with pytest.raises(ServerError) as caught:
        serve.Server(ended, free_ports(), Access(), log, tmp_path).wait_until_ready()
    first, *tail = str(caught.value).splitlines()
    assert first == f"tritonserver stopped with status 3 while starting. The end of {log}:"
    assert tail[-1] == "line 99"
    assert "line 50" not in tail


def test_stopping_ends_the_process_and_may_be_repeated(tmp_path: Path) -> None:
    running = process("import time; time.sleep(60)", tmp_path / "log")
    server = serve.Server(running, free_ports(), Access(), None, tmp_path)
    server.stop()
    server.stop()
    assert running.returncode == -signal.SIGTERM


def test_a_server_that_will_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "EXIT_TIMEOUT_S", -5)  # no patience at all
    log = tmp_path / "log"
    stubborn = process("import signal, time; signal.signal(15, signal.SIG_IGN); print('ignoring', flush=True); time.sleep(60)", log)
    while "ignoring" not in log.read_text():
        assert stubborn.poll() is None
        time.sleep(0.01)
    serve.Server(stubborn, free_ports(), Access(), log, tmp_path).stop()
    assert stubborn.returncode == -signal.SIGKILL


def test_what_a_killed_server_leaves_in_shared_memory_is_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, scratch = tmp_path / "shm", tmp_path / "pika-tritonserver-1"
    memory.mkdir()
    monkeypatch.setattr(triton, "_SHARED_MEMORY", memory)
    (flag,) = [
        word.partition("shm-region-prefix-name=")[2]
        for word in triton.command(INSTALLED, scratch, tmp_path, Ports(), Access())
        if "shm-region" in word
    ]
    for name in (f"{flag}a", f"{flag}b", "pika-tritonserver-10-a", "triton_python_backend_shm_region_a"):
        (memory / name).touch()
    server = serve.Server(process("import time; time.sleep(60)", tmp_path / "log"), Ports(), Access(), None, scratch)
    server.kill()
    assert server.process.returncode == -signal.SIGKILL
    assert {path.name for path in memory.iterdir()} == {"pika-tritonserver-10-a", "triton_python_backend_shm_region_a"}


@pytest.mark.parametrize(("script", "has_crashed"), [("import os; os.abort()", True), ("raise SystemExit(1)", False), ("", False)])
def test_a_crash_is_told_from_giving_up(tmp_path: Path, script: str, has_crashed: bool) -> None:
    ended = process(script, tmp_path / "log")
    ended.wait()
    assert serve.Server(ended, Ports(), Access(), None, tmp_path).has_crashed is has_crashed


def test_a_stub_that_ends_while_the_server_calls_itself_ready_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "stubs_of", lambda _: [watch.Stub(1, "the stub of tagger", True)])
    starting = process("import time; time.sleep(60)", tmp_path / "log")
    server = serve.Server(starting, free_ports(), Access(), None, tmp_path)
    try:
        with pytest.raises(ServerError, match="no tag came back within"):  # models are still being loaded
            server.wait_until_ready(timeout_s=0.1)
        monkeypatch.setattr(health, "requests_done", lambda *_: 0)
        with pytest.raises(ServerError, match="the stub of tagger has ended while starting"):
            server.wait_until_ready()
    finally:
        server.kill()


@pytest.mark.parametrize("n_instances", [1, 5])
def test_ready_is_a_tag_and_one_more_of_each_instance(
    place: Checkout, monkeypatch: pytest.MonkeyPatch, probes: list[int], n_instances: int
) -> None:
    repository = place.finished("triton-cpu", {"tagger/config.pbtxt": f"instance_group {{ count: {n_instances} }}"})
    start = serve.start_process
    monkeypatch.setattr(serve, "start_process", lambda _, environment, log: start(["sleep", "60"], environment, log))
    with serve.running(repository, free_ports(), None) as server:
        server.wait_until_ready()
    assert len(probes) == 1 + n_instances


@pytest.mark.parametrize(("name", "has_vllm"), [("cpu", False), ("vllm", True)])
def test_where_vllm_serves_its_python_runs_the_models_and_a_start_may_take_long(
    place: Checkout, monkeypatch: pytest.MonkeyPatch, name: str, has_vllm: bool
) -> None:
    given = list[object]()

    @contextmanager
    def launching(_repository: Path, _ports: Ports, _log: Path, _access: Access, python_bin: Path) -> Iterator[SimpleNamespace]:
        given.append(python_bin)
        yield SimpleNamespace(start=None)

    monkeypatch.setattr(serve, "launching", launching)
    monkeypatch.setattr(supervise, "supervise", lambda *arguments: given.append(arguments[-1]))
    monkeypatch.setattr(serve, "vllm_python_bin", lambda: Path("/vllm/bin"))
    serve.serve(place.model, settings.target(name), Ports(), Access())
    expected = (Path("/vllm/bin"), 900.0) if has_vllm else (Path(sys.executable).parent, 120.0)
    assert tuple(given) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_block_as_ctrl_c_does(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("address", "url"), [("127.0.0.1", "127.0.0.1:4711"), ("0.0.0.0", "127.0.0.1:4711"), ("10.0.0.5", "10.0.0.5:4711")]
)
def test_the_url_is_where_this_machine_finds_grpc(tmp_path: Path, address: str, url: str) -> None:
    ended = process("", tmp_path / "log")
    ended.wait()
    assert serve.Server(ended, Ports(4711, 2, 3), Access(address), None, tmp_path).url == url


def test_what_is_started_is_known_before_an_interruption_is_felt_and_feels_it_itself(tmp_path: Path) -> None:
    known, log = [], tmp_path / "log"
    line = [sys.executable, "-c", "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"]

    def start() -> None:
        with log.open("wb") as stream, uninterrupted():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            known.append(serve.start_process(line, dict(os.environ), stream))

    with pytest.raises(KeyboardInterrupt), interruptible():
        start()
    assert known[0].wait() == 0
    assert log.read_text() == "set()\n"
