"""Task `serve`: tritonserver in the foreground, and the same as a context manager for demo and tests.

A port that is taken is found before the server starts. "Ready" means that a real tag has come back, not that a flag says so. However this
process ends, the server does not outlive it.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import IO

from build import ROOT, manifest, triton
from build.errors import PortInUseError, ServerError
from build.repository import served_tagger_instances
from build.settings import Model, Ports, Target
from pika_tagger import TaggerClient, TaggerError

START_TIMEOUT_S = 120.0
VLLM_START_TIMEOUT_S = 900.0
"""vLLM compiles the model and captures CUDA graphs before its first token."""
VLLM_ENVIRONMENT = ROOT / ".venv-vllm"
"""What `make install-vllm` makes: vLLM wants other versions of what the pipeline uses."""
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 20


class Server:
    """A running tritonserver."""

    def __init__(self, process: "subprocess.Popen[bytes]", ports: Ports, log: Path | None, tagger_instances: int = 1) -> None:
        """Take over a process that `running` has started."""
        self.process, self.ports, self.log, self._tagger_instances = process, ports, log, tagger_instances

    @property
    def url(self) -> str:
        """HOST:PORT of the gRPC endpoint."""
        return f"{triton.LOOPBACK}:{self.ports.grpc_port}"

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for a real tag from every instance of the tagger.

        Raises:
            ServerError: the server stopped by itself, or gave no tag in time; the message has the end of its log.
        """
        give_up = time.monotonic() + timeout_s
        with TaggerClient(self.url) as client:
            while True:
                if self.process.poll() is not None:
                    raise ServerError(f"tritonserver stopped with status {self.process.returncode} while starting{self._log_tail()}")
                try:
                    client.wait_until_ready(timeout_s=1.0)
                except TaggerError as error:
                    if time.monotonic() > give_up:
                        raise ServerError(f"no tag came back within {timeout_s:.0f} s ({error}){self._log_tail()}") from error
                else:
                    # The first answer of each takes several times as long as any later one.
                    for _ in range(self._tagger_instances):
                        client.health()
                    return

    def stop(self) -> None:
        """Ask the server to finish, and kill it and its stubs if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(triton.EXIT_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _log_tail(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f". The end of {self.log}:", *lines])


def check_ports(ports: Ports) -> None:
    """Whether the server could listen on all three.

    Raises:
        PortInUseError: one is taken; the message names it and the setting that changes it.
    """
    for name, port in vars(ports).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((triton.LOOPBACK, port))
            except OSError as error:
                raise PortInUseError(f"port {port} cannot be used ({error.strerror}): give another one with {name}=NUMBER") from None


def free_ports() -> Ports:
    """Three ports on the loopback address on which nobody listens now; somebody else may take one before it is used."""
    sockets = [socket.socket() for _ in fields(Ports)]
    try:
        for each in sockets:
            each.bind((triton.LOOPBACK, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running(repository: Path, ports: Ports, log: Path | None, python_bin: Path = triton.THIS_PYTHON_BIN) -> Iterator[Server]:
    """A tritonserver over a model repository, stopped at the end of the block.

    Args:
        repository: what `model_repository` assembled.
        ports: where to listen, on the loopback address.
        log: file for the server's output; None leaves it on the terminal.
        python_bin: where the `python3` is whose packages the models use.

    Raises:
        ManifestError: the repository is incomplete or not what its manifest says.
        PortInUseError: see `check_ports`.
        ServerError: the server's parts are not installed.
    """
    manifest.verify_contents(repository)
    check_ports(ports)
    installed, tagger_instances = triton.installation(), served_tagger_instances(repository)
    with tempfile.TemporaryDirectory(prefix="pika-tritonserver-") as scratch:
        backends = Path(scratch) / "backends"
        triton.make_backends(installed, backends)
        stream = log.open("wb") if log else None
        try:
            process = _start(triton.command(installed, backends, repository, ports), triton.environment(installed, python_bin), stream)
            server = Server(process, ports, log, tagger_instances)
            try:
                yield server
            finally:
                server.stop()
        finally:
            if stream:
                stream.close()


def serve(model: Model, target: Target, ports: Ports) -> None:
    """Run the server in the foreground until it is interrupted.

    Raises:
        ServerError: as `running`, or the server stopped by itself, or vLLM is to serve and is not installed.
    """
    python_bin = vllm_python_bin() if target.vllm else triton.THIS_PYTHON_BIN
    with interruptible(), running(model.folder / f"triton-{target.name}", ports, None, python_bin) as server:
        try:
            server.wait_until_ready(VLLM_START_TIMEOUT_S if target.vllm else START_TIMEOUT_S)
            print(f"\nready: gRPC {server.url}, HTTP port {ports.http_port}, metrics port {ports.metrics_port}. Ctrl-C stops.", flush=True)
            status = server.process.wait()
        except KeyboardInterrupt:
            print("\nstopping", flush=True)
            return
    raise ServerError(f"tritonserver stopped by itself with status {status}")


def vllm_python_bin() -> Path:
    """Where the `python3` is that has vLLM.

    Raises:
        ServerError: there is none, or of another version than this one, whose stub the server takes.
    """
    folder, library = VLLM_ENVIRONMENT / "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (VLLM_ENVIRONMENT / "lib" / library / "site-packages" / "vllm").is_dir():
        raise ServerError(f"{VLLM_ENVIRONMENT} has no vLLM for {library}: run `make install-vllm` with the Python of this environment")
    return folder


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block as Ctrl-C does, so that what it holds is released."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(command: list[str], environment: dict[str, str], log: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log else None,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the server in order
        preexec_fn=die_with_parent,
    )
