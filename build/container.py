"""Where commands that need TensorRT-LLM run: in place if it is installed, else in NVIDIA's image through docker.

In both ways the paths are the same, because folders are mounted where they are. A command is one line that can be typed as it is.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from build import build_causes
from build.errors import EngineError
from build.settings import Container

BUILDER = "trtllm-build"
_VERSIONS = "import importlib.metadata, tensorrt; print(importlib.metadata.version('tensorrt_llm'), tensorrt.__version__)"
_GPU = "name,compute_cap,driver_version"


@dataclass(frozen=True)
class Machine:
    """What an engine works with: the versions of its libraries, and a GPU with its driver."""

    tensorrt_llm: str
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str


@dataclass(frozen=True)
class Place:
    """Where commands run.

    Attributes:
        name: The image, or "in place".
        prefix: What stands before a command.
        gpu_index: The GPU, as nvidia-smi counts them there.
    """

    name: str
    prefix: tuple[str, ...]
    gpu_index: int

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs `arguments` there."""
        return [*self.prefix, *arguments]


def installed() -> bool:
    """Whether TensorRT-LLM can be used without a container, as inside NVIDIA's image."""
    return find_spec("tensorrt_llm") is not None and shutil.which(BUILDER) is not None


def choose(container: Container, gpu_index: int, writable: Path, read_only: Path) -> Place:
    """Where commands would run, whether or not they can.

    Args:
        container: the image.
        gpu_index: the GPU of this machine.
        writable: folder that the commands may change.
        read_only: folder, which may be inside the other one, that they must leave alone.
    """
    if installed():
        environment = ("CUDA_DEVICE_ORDER=PCI_BUS_ID", f"CUDA_VISIBLE_DEVICES={gpu_index}", "HF_HUB_OFFLINE=1")
        return Place("in place", ("env", *environment), gpu_index)
    own, fixed = writable.resolve(), read_only.resolve()
    docker = ("docker", "run", "--rm", "--init", "--gpus", f"device={gpu_index}", "--user", f"{os.getuid()}:{os.getgid()}")
    # HOME and USER: this user has neither a home nor a name in the image, and torch looks for both.
    variables = ("--env", "HOME=/tmp", "--env", "USER=pika", "--env", "HF_HUB_OFFLINE=1")
    limits = ("--shm-size", "1g", "--ulimit", "memlock=-1", "--ulimit", "stack=67108864")
    mounts = ("--mount", f"type=bind,source={own},target={own}", "--mount", f"type=bind,source={fixed},target={fixed},readonly")
    return Place(container.image, (*docker, *variables, *limits, *mounts, "--workdir", "/tmp", container.image), 0)


def require(place: Place) -> None:
    """Whether anything can run there.

    Raises:
        EngineError: it cannot; the message names both ways.
    """
    if place.prefix[0] == "docker" and shutil.which("docker") is None:
        raise EngineError(
            f"there is neither TensorRT-LLM nor docker on this machine: run this inside {place.name}, where {BUILDER} is installed, "
            "or install docker and the NVIDIA Container Toolkit"
        )


def look(place: Place) -> Machine:
    """Versions and GPU, as commands there see them.

    Raises:
        EngineError: they cannot be found out; the message has what the tools said.
    """
    line = _last_line(place, ["python3", "-c", _VERSIONS])
    versions = line.split()
    if len(versions) != 2:
        raise EngineError(f"{place.name}: python3 was asked for the versions of TensorRT-LLM and TensorRT and said {line!r}")
    return Machine(versions[0], versions[1], *gpu(place))


def gpu(place: Place) -> tuple[str, str, str]:
    """Name, compute capability and driver of the GPU. Raises as `look`."""
    line = _last_line(place, ["nvidia-smi", f"--id={place.gpu_index}", f"--query-gpu={_GPU}", "--format=csv,noheader"])
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3:
        raise EngineError(f"nvidia-smi was asked for {_GPU} of GPU {place.gpu_index} and said {line!r}: run nvidia-smi to see why")
    name, compute_capability, driver = fields
    return name, compute_capability, driver


def _last_line(place: Place, arguments: list[str]) -> str:
    """What a short command prints; the image's own start script prints a banner before it."""
    command = place.command(arguments)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        said = f"{done.stdout}{done.stderr}".strip()
        cause = build_causes.likely(done.returncode, said.splitlines())
        likely = f"\nLikely cause: {cause}" if cause else ""
        raise EngineError(f"{place.name}: {arguments[0]} ended with status {done.returncode}:\n{said}{likely}")
    return done.stdout.rstrip().rpartition("\n")[2]
