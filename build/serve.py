"""Task `serve`: tritonserver in the foreground, and the same as a context manager for demo and tests.

A port that is taken is found before the server starts. "Ready" means that a real tag has come back, not that a flag says so. However this
process ends, the server does not outlive it.
"""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import IO

from build import health, manifest, settings, triton
from build.errors import PortInUseError, ServerError, SettingError
from build.repository import tagger_instances
from build.server_options import LOOPBACK, Access
from build.settings import Model, Ports, Target
from pika_tagger import TaggerError

START_TIMEOUT_S = 120.0
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 20


class Server:
    """A running tritonserver."""

    def __init__(self, process: "subprocess.Popen[bytes]", ports: Ports, access: Access, log: Path | None) -> None:
        """Take over a process that `running` has started."""
        self.process, self.ports, self.access, self.log = process, ports, access, log

    @property
    def url(self) -> str:
        """HOST:PORT of the gRPC endpoint, seen from this machine."""
        return health.reached_at(self.access, self.ports)

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for a real tag from every instance of the tagger.

        Raises:
            ServerError: the server stopped by itself, or gave no tag in time; the message has the end of its log.
        """
        give_up = time.monotonic() + timeout_s
        with health.probing(self.access, self.ports) as probe:
            while True:
                if self.process.poll() is not None:
                    raise ServerError(f"tritonserver stopped with status {self.process.returncode} while starting{self._log_tail()}")
                try:
                    probe()
                except (TaggerError, ServerError) as error:
                    if time.monotonic() > give_up:
                        raise ServerError(f"no tag came back within {timeout_s:.0f} s ({error}){self._log_tail()}") from error
                else:
                    # The first answer of each takes several times as long as any later one. What is served here is always target cpu.
                    for _ in range(tagger_instances(settings.target("cpu"))):
                        probe()
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


def check_ports(ports: Ports, access: Access) -> None:
    """Whether the server could listen on all three.

    Raises:
        PortInUseError: one is taken; the message names it and the setting that changes it.
        SettingError: the address is not one of this machine's.
    """
    for name, port in vars(ports).items():
        address = access.address if name == "grpc_port" else access.plain_address
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise SettingError(f"address={address} is not one of this machine's: `ip address` lists them, 0.0.0.0 is all") from None
                raise PortInUseError(f"port {port} cannot be used ({error.strerror}): give another one with {name}=NUMBER") from None


def free_ports() -> Ports:
    """Three ports on the loopback address on which nobody listens now; somebody else may take one before it is used."""
    sockets = [socket.socket() for _ in fields(Ports)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running(repository: Path, ports: Ports, log: Path | None, access: Access | None = None) -> Iterator[Server]:
    """A tritonserver over a model repository, stopped at the end of the block.

    Args:
        repository: what `model_repository` assembled.
        ports: where to listen.
        log: file for the server's output; None leaves it on the terminal.
        access: who may reach it; by default what `Access` is by default.

    Raises:
        ManifestError: the repository is incomplete or not what its manifest says.
        PortInUseError: see `check_ports`; likewise SettingError.
        ServerError: the server's parts are not installed.
    """
    manifest.verify_contents(repository)
    access = access or Access()
    check_ports(ports, access)
    installed = triton.installation()
    with tempfile.TemporaryDirectory(prefix="pika-tritonserver-") as scratch:
        backends = Path(scratch) / "backends"
        triton.make_backends(installed, backends)
        stream = log.open("wb") if log else None
        try:
            process = _start(triton.command(installed, backends, repository, ports, access), installed, stream)
            server = Server(process, ports, access, log)
            try:
                yield server
            finally:
                server.stop()
        finally:
            if stream:
                stream.close()


def serve(model: Model, target: Target, ports: Ports, access: Access) -> None:
    """Run the server in the foreground until it is interrupted.

    Raises:
        ServerError: as `running`, or the server stopped by itself.
    """
    with interruptible(), running(model.folder / f"triton-{target.name}", ports, None, access) as server:
        try:
            server.wait_until_ready()
            print(f"\nready: {_where(access, ports)}. Ctrl-C stops.", flush=True)
            status = server.process.wait()
        except KeyboardInterrupt:
            print("\nstopping", flush=True)
            return
    raise ServerError(f"tritonserver stopped by itself with status {status}")


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


def _where(access: Access, ports: Ports) -> str:
    encryption = "" if access.tls is None else " with mutual TLS" if access.tls.client_authority else " with TLS"
    plain = access.plain_address
    return f"gRPC {access.address}:{ports.grpc_port}{encryption}, HTTP {plain}:{ports.http_port}, metrics {plain}:{ports.metrics_port}"


def _start(command: list[str], installed: triton.Installation, log: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(
        command,
        env=triton.environment(installed),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log else None,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the server in order
        preexec_fn=die_with_parent,
    )
