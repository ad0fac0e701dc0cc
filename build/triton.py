"""Where the real tritonserver is, and how it is called.

On target cpu it comes from the wheel nvidia-pytriton, which carries the server, its Python backend and one backend stub per Python version.
The stub is picky: it must be the one of this Python, find libpython, and find this environment's `python3` first on PATH.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from build import check_machine, server_options
from build.errors import ServerError
from build.server_options import Access
from build.settings import Ports

THIS_PYTHON_BIN = Path(sys.executable).parent
EXIT_TIMEOUT_S = 10
"""How long tritonserver waits for requests in flight when it is asked to stop."""
STOPPING_FILE = "PIKA_STOPPING_FILE"
"""Environment variable of the tagger: once the file that it names exists, the tagger refuses what comes."""

_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Installation:
    """The parts of the wheel that are needed to start a server."""

    server: Path
    backend: Path
    stub: Path
    library_paths: tuple[Path, ...]


def installation() -> Installation:
    """Find the parts.

    Raises:
        ServerError: nvidia-pytriton is not installed, has no stub for this Python, or libpython is not there.
    """
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise ServerError("nvidia-pytriton is not installed, so there is no tritonserver: run `make install`")
    package = Path(spec.origin).parent
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise ServerError(f"nvidia-pytriton has no backend stub for Python {version}: use Python 3.11 or 3.12")
    libpython = check_machine.libpython_folder()
    if libpython is None:
        raise ServerError("\n".join(check_machine.problems()))
    return Installation(
        server=root / "bin" / "tritonserver",
        backend=root / "backends" / "python",
        stub=stub,
        library_paths=(package.parent / "nvidia_pytriton.libs", libpython),
    )


def make_backends(installed: Installation, scratch: Path) -> None:
    """Lay out a backend directory in `scratch`: the Python backend with the stub beside it, as links."""
    python = scratch / "backends" / "python"
    python.mkdir(parents=True)
    for path in (*installed.backend.iterdir(), installed.stub):
        if path.name != "__pycache__":
            (python / path.name).symlink_to(path)


def stopping_file(scratch: Path) -> Path:
    """What to create for the tagger to refuse new requests."""
    return scratch / "stopping"


def shared_memory(scratch: Path) -> list[Path]:
    """What servers started with this `scratch` have, or have left, in shared memory: 1 MiB for each Python model instance."""
    return list(_SHARED_MEMORY.glob(f"{scratch.name}-*"))


def command(installed: Installation, scratch: Path, repository: Path, ports: Ports, access: Access) -> list[str]:
    """The command line, with the backends of `make_backends`. Who may reach the server is `server_options`."""
    return [
        str(installed.server),
        f"--model-repository={repository}",
        f"--backend-directory={scratch / 'backends'}",
        # A server that is killed leaves its shared memory behind; by this name it is found.
        f"--backend-config=python,shm-region-prefix-name={scratch.name}-",
        *server_options.flags(access, ports),
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        "--allow-gpu-metrics=false",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
    ]


def environment(installed: Installation, scratch: Path, python_bin: Path = THIS_PYTHON_BIN) -> dict[str, str]:
    """The environment that server and stubs need, on top of the present one.

    Args:
        installed: the server's parts.
        scratch: as `make_backends` has it.
        python_bin: where the `python3` is whose packages the models use.
    """
    libraries: Sequence[str] = [str(path) for path in installed.library_paths]
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(python_bin), os.environ.get("PATH", "")]),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
        STOPPING_FILE: str(stopping_file(scratch)),
        "ORT_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
