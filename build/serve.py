"""Task `serve`: tritonserver kept alive in the foreground, and one as a context manager for demo and tests.

"Ready" means that a real tag has come back, not that a flag says so. However this
process ends, the server does not outlive it. When a server has failed is `watch`, when it is started again `supervise`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from build import ROOT, health, manifest, supervise, triton, watch
from build.errors import ServerError
from build.interrupts import interruptible, uninterrupted
from build.ports import check_ports
from build.repository import served_tagger_instances
from build.server_options import Access
from build.settings import Model, Ports, Target

START_TIMEOUT_S = 120.0
VLLM_START_TIMEOUT_S = 900.0
"""vLLM compiles the model and captures CUDA graphs before its first token."""
VLLM_ENVIRONMENT = ROOT / ".venv-vllm"
"""What `make install-vllm` makes: vLLM wants other versions of what the pipeline uses."""
DRAIN_S = 1.0
"""From when new tags are refused to when the server is told to stop: as long as a client waits for a tag unless it is told otherwise."""
_TAIL_LINES = 20
_POLL_S = 0.1


class Server:
    """A running tritonserver."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", ports: Ports, access: Access, log: Path | None, scratch: Path, tagger_instances: int = 1
    ) -> None:
        """Take over a process that leads its own group and has been started with the names that `triton` has for `scratch`.

        `tagger_instances` is as many as its model repository has.
        """
        self.process, self.ports, self.access, self.log, self.scratch = process, ports, access, log, scratch
        self._tagger_instances = tagger_instances
        self._killed = False

    @property
    def url(self) -> str:
        """HOST:PORT of the gRPC endpoint, seen from this machine."""
        return health.reached_at(self.access, self.ports)

    @property
    def has_crashed(self) -> bool:
        """Whether a signal ended it, its own `abort` for example."""
        return (self.process.poll() or 0) < 0

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for a real tag from every instance of the tagger.

        Raises:
            ServerError: the server stopped by itself, or gave no tag in time; the message has the end of its log.
        """
        give_up = time.monotonic() + timeout_s
        with health.probing(self.access, self.ports) as probe:
            # The first answer of each instance takes several times as long as any later one.
            missing = 1 + self._tagger_instances
            while missing:
                if self.process.poll() is not None:
                    raise ServerError(f"tritonserver stopped with status {self.process.returncode} while starting{self.log_tail()}")
                try:
                    probe()
                except ServerError as error:
                    if health.requests_done(self.access, self.ports) is not None:  # it calls itself ready
                        for stub in watch.stubs_of(self.process.pid):
                            if stub.has_ended:
                                raise ServerError(f"{stub.name} has ended while starting{self.log_tail()}") from error
                    if time.monotonic() > give_up:
                        raise ServerError(f"no tag came back within {timeout_s:.0f} s ({error}){self.log_tail()}") from error
                    time.sleep(_POLL_S)
                else:
                    missing -= 1

    def wait_until_failure(self) -> str:
        """Block until a process of the server has ended or no tags come, and say which."""
        with health.probing(self.access, self.ports) as probe:
            return watch.until_failure(self.process.pid, probe, lambda: health.requests_done(self.access, self.ports))

    def drain(self) -> None:
        """Let the tags that have begun be answered, while new ones are refused as UNAVAILABLE.

        Triton has no such thing: once it is told to stop, a model cannot ask another one any more, so tags that have begun fail.
        """
        triton.stopping_file(self.scratch).touch()
        time.sleep(DRAIN_S)

    def stop(self) -> None:
        """Ask the server to finish, and kill it if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(triton.EXIT_TIMEOUT_S + 5)
        self.kill()

    def kill(self) -> None:
        """End the server and its stubs at once, and remove what they leave in shared memory. The second time nothing happens."""
        if self._killed:
            return  # the number may be another process's by now
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for left in triton.shared_memory(self.scratch):
            left.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The end of its log, with the name of the file in front; nothing if it has none."""
        if self.log is None:
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f". The end of {self.log}:", *lines])


class Launcher:
    """Starts servers over one model repository, each after the one before has ended."""

    latest: Server | None = None

    def __init__(
        self,
        repository: Path,
        ports: Ports,
        access: Access,
        log: Path | None,
        scratch: Path,
        stream: IO[bytes] | None,
        python_bin: Path,
    ) -> None:
        """Lay out the backends in `scratch`, an empty folder. `stream` is `log`, opened for writing."""
        installed = triton.installation()
        triton.make_backends(installed, scratch)
        self._command = triton.command(installed, scratch, repository, ports, access)
        self._environment = triton.environment(installed, scratch, python_bin)
        self._tagger_instances = served_tagger_instances(repository)
        self._ports, self._access, self._log, self._scratch, self._stream = ports, access, log, scratch, stream

    def start(self) -> Server:
        """Start one; that it gives tags is the caller's to wait for."""
        with uninterrupted():
            process = start_process(self._command, self._environment, self._stream)
            self.latest = Server(process, self._ports, self._access, self._log, self._scratch, self._tagger_instances)
        return self.latest


@contextmanager
def launching(
    repository: Path, ports: Ports, log: Path | None, access: Access, python_bin: Path = triton.THIS_PYTHON_BIN
) -> Iterator[Launcher]:
    """What starts servers; the last one is stopped at the end of the block. Arguments and errors are those of `running`."""
    manifest.verify_contents(repository)
    check_ports(ports, access)
    with contextlib.ExitStack() as held:
        scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="pika-tritonserver-")))
        stream = held.enter_context(log.open("wb")) if log else None
        launcher = Launcher(repository, ports, access, log, scratch, stream, python_bin)
        try:
            yield launcher
        finally:
            if launcher.latest:
                launcher.latest.stop()


@contextmanager
def running(
    repository: Path, ports: Ports, log: Path | None, access: Access | None = None, python_bin: Path = triton.THIS_PYTHON_BIN
) -> Iterator[Server]:
    """A tritonserver over a model repository, stopped at the end of the block.

    Args:
        repository: what `model_repository` assembled.
        ports: where to listen.
        log: file for the server's output; None leaves it on the terminal.
        access: who may reach it; by default what `Access` is by default.
        python_bin: where the `python3` is whose packages the models use.

    Raises:
        ManifestError: the repository is incomplete or not what its manifest says.
        PortInUseError: see `check_ports`; likewise SettingError.
        ServerError: the server's parts are not installed.
    """
    with launching(repository, ports, log, access or Access(), python_bin) as launcher:
        yield launcher.start()


def serve(model: Model, target: Target, ports: Ports, access: Access) -> None:
    """Keep a server alive in the foreground until this process is interrupted.

    Raises:
        ServerError: as `running`; or vLLM is to serve and is not installed; or the server gave no tags when it started first, or failed too
            often. The message names its log.
    """
    log = model.folder / "serve.log"
    start_timeout_s = VLLM_START_TIMEOUT_S if target.vllm else START_TIMEOUT_S
    python_bin = vllm_python_bin() if target.vllm else triton.THIS_PYTHON_BIN
    with interruptible(), launching(model.folder / f"triton-{target.name}", ports, log, access, python_bin) as launcher:
        _say(f"starting tritonserver, its log is {log}")
        try:
            supervise.supervise(launcher.start, _say, f"ready: {_where(access, ports)}. Ctrl-C stops", start_timeout_s)
        except KeyboardInterrupt:
            _say("stopping: tags that have begun are answered, new ones refused")
            if launcher.latest:
                launcher.latest.drain()


def vllm_python_bin() -> Path:
    """Where the `python3` is that has vLLM.

    Raises:
        ServerError: there is none, or of another version than this one, whose stub the server takes.
    """
    folder, library = VLLM_ENVIRONMENT / "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (VLLM_ENVIRONMENT / "lib" / library / "site-packages" / "vllm").is_dir():
        raise ServerError(f"{VLLM_ENVIRONMENT} has no vLLM for {library}: run `make install-vllm` with the Python of this environment")
    return folder


def _say(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


def _where(access: Access, ports: Ports) -> str:
    encryption = "" if access.tls is None else " with mutual TLS" if access.tls.client_authority else " with TLS"
    plain = access.plain_address
    return f"gRPC {access.address}:{ports.grpc_port}{encryption}, HTTP {plain}:{ports.http_port}, metrics {plain}:{ports.metrics_port}"


def start_process(command: list[str], environment: dict[str, str], log: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    """Start a server in a session and process group of its own; it is told to stop when the calling thread ends, however that happens."""
    return subprocess.Popen(
        # Not by a preexec_fn: with one, gRPC's own handlers run in the new process, and where a channel is open here, it aborts now and
        # then before it has become tritonserver.
        ["setpriv", "--pdeathsig", "TERM", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log else None,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the server in order
    )
