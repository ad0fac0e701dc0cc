"""What a GPU target needs of a machine: driver, GPU, memory, and docker with NVIDIA's toolkit and the image.

Used by `build.doctor`; nothing is changed, only asked. Where TensorRT-LLM is installed no container is needed, so none is looked for. What
the image asks for, drivers and room, stands beside it in presets.toml.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from build import container, manifest
from build.ask import ask
from build.disk import existing_part
from build.doctor_report import Check, State
from build.gpu_info import Gpu, Reading, version_numbers
from build.model_size import Memory
from build.settings import Container
from build.settings import Gpu as Wanted

_TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
_CONFIGURE = "`sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`"
_GIB = 1 << 30


def checks(reading: Reading, wanted: Wanted, gpu_index: int, need: Memory | None, image: Container) -> Iterator[Check]:
    """Everything that a GPU target needs beyond what every target needs.

    Args:
        reading: what nvidia-smi said.
        wanted: the GPU of the target.
        gpu_index: the GPU that was chosen, by nvidia-smi's count.
        need: what the engine wants of its memory; None while the model is not known.
        image: where engines are built and served.
    """
    if reading.problem:
        yield Check("gpu", State.PROBLEM, reading.problem, reading.fix)
    else:
        suitable = [gpu for gpu in reading.gpus if (gpu.name, gpu.compute_capability) == (wanted.name, wanted.compute_capability)]
        yield driver(reading, image)
        yield kind(reading.gpus, suitable, wanted, gpu_index)
        if suitable:
            yield memory(suitable, gpu_index, need)
    if container.installed():
        yield in_place(image)
    else:
        yield from containers(image)


def driver(reading: Reading, image: Container) -> Check:
    """Whether the driver can run the image's CUDA."""
    gpu, limits = reading.gpus[0], image.drivers
    cuda = f", CUDA {reading.cuda_version}" if reading.cuda_version else ""
    found = f"{gpu.driver}{cuda}; the image has CUDA {image.cuda}"
    upgrade = f"install driver {limits.full} or newer (`sudo ubuntu-drivers install --gpgpu`, or NVIDIA's own package) and restart"
    numbers = version_numbers(gpu.driver)
    if numbers >= version_numbers(limits.full):
        return Check("driver", State.OK, found)
    if numbers < version_numbers(limits.minor_version):
        return Check("driver", State.PROBLEM, f"{found}, which starts from driver {limits.minor_version} on", upgrade)
    if "GeForce" not in gpu.name and numbers >= version_numbers(limits.data_centre):
        return Check("driver", State.OK, f"{found} and runs by forward compatibility")
    # NVIDIA does not support this for the image, but nothing says that it cannot work.
    found += " and runs by minor-version compatibility, which NVIDIA does not support for it; GeForce has no forward compatibility"
    return Check("driver", State.WARNING, found, f"if an engine fails to build or to load: {upgrade}")


def kind(gpus: Sequence[Gpu], suitable: Sequence[Gpu], wanted: Wanted, gpu_index: int) -> Check:
    """Whether the target's engine can be built and run on a GPU of this machine."""
    found = ", ".join(f"{gpu.index}: {gpu.name} (compute capability {gpu.compute_capability})" for gpu in gpus)
    if not suitable:
        found += f"; the target is for {wanted.name} ({wanted.compute_capability})"
        return Check("gpu", State.PROBLEM, found, "give the target= of the GPU that is here, or add a row to build/presets.toml")
    if gpu_index not in [gpu.index for gpu in suitable]:
        found += f"; gpu={gpu_index} is not of the target's kind"
        return Check("gpu", State.WARNING, found, f"gpu={suitable[0].index} before the task")
    return Check("gpu", State.OK, found)


def memory(gpus: Sequence[Gpu], gpu_index: int, need: Memory | None) -> Check:
    """Whether the chosen GPU, or another one like it, has room for the engine beside what already runs on it."""
    name = "gpu memory"
    found = "GiB free on GPU " + ", ".join(f"{gpu.index}: {_gib(gpu.free_bytes)} of {_gib(gpu.total_bytes)}" for gpu in gpus)
    if need is None:
        return Check(name, State.WARNING, found, "`doit download`: how much is needed is known when the model is there")
    found += (
        f"; {_gib(need.total_bytes)} needed: weights {_gib(need.weights_bytes)}, KV cache {_gib(need.kv_cache_bytes)}, "
        f"activations {_gib(need.activations_bytes)}, CUDA and libraries {_gib(need.runtime_bytes)}"
    )
    free_bytes = {gpu.index: gpu.free_bytes for gpu in gpus if gpu.free_bytes is not None}
    if not free_bytes:
        return Check(name, State.WARNING, found, "the driver does not tell: look for yourself with `nvidia-smi`")
    best = max(free_bytes, key=lambda index: free_bytes[index])
    if free_bytes[best] < need.total_bytes:
        lacking = f"GPU {best} lacks {_gib(need.total_bytes - free_bytes[best])} GiB: stop or move a service that runs on it"
        return Check(name, State.PROBLEM, found, f"{lacking}, or lower kv_cache_tokens of the target in build/presets.toml")
    if gpu_index in free_bytes and free_bytes[gpu_index] < need.total_bytes:
        return Check(name, State.WARNING, f"{found}; GPU {gpu_index} is too full", f"gpu={best} before the task")
    return Check(name, State.OK, found)


def in_place(image: Container) -> Check:
    """Whether the TensorRT-LLM of this environment is the one that everything is made for."""
    version = manifest.versions("tensorrt_llm")["tensorrt_llm"]
    if version == image.tensorrt_llm:
        return Check("tensorrt_llm", State.OK, f"{version} in this environment: no container is needed")
    found = f"{version} in this environment, {image.tensorrt_llm} in build/presets.toml"
    return Check("tensorrt_llm", State.PROBLEM, found, f"work inside {image.image}, or in an environment without TensorRT-LLM")


def containers(image: Container) -> Iterator[Check]:
    """Whether the image can be run with a GPU, and is there or has room."""
    answer = ask("docker", "info", "--format", "{{json .}}")
    try:
        info = json.loads(answer.output) if answer.ok else None
    except ValueError:
        info = None
    # Without a daemon the client prints what it knows of itself, and some versions of it end well all the same.
    if info is None or not info.get("ServerVersion"):
        yield Check("docker", State.PROBLEM, answer.said, _docker_fix(answer.said))
        return
    yield Check("docker", State.OK, info["ServerVersion"])
    yield toolkit(info.get("Runtimes") or {})
    yield image_there(image, Path(info["DockerRootDir"]))


def toolkit(runtimes: Mapping[str, object]) -> Check:
    """Whether `docker run --gpus` works."""
    name = "container toolkit"
    version = ask("nvidia-ctk", "--version")
    if "nvidia" in runtimes or shutil.which("nvidia-container-runtime-hook"):
        return Check(name, State.OK, version.output.partition("\n")[0] if version.ok else "installed")
    if version.ok:
        return Check(name, State.PROBLEM, "installed, but docker does not know the runtime nvidia", _CONFIGURE)
    return Check(
        name, State.PROBLEM, "not installed: a container sees no GPU", f"install nvidia-container-toolkit ({_TOOLKIT}), then {_CONFIGURE}"
    )


def image_there(image: Container, docker_root: Path) -> Check:
    """Whether the image is there, or has room."""
    if ask("docker", "image", "inspect", "--format", "{{.Id}}", image.image).ok:
        return Check("image", State.OK, image.image)
    free_bytes = shutil.disk_usage(existing_part(docker_root)).free
    found = (
        f"{image.image} is not here yet; {free_bytes / 1e9:.0f} GB free in {docker_root}, "
        f"it is listed with {image.image_bytes / 1e9:.0f} GB"
    )
    pull, room = f"`docker pull {image.image}`", "make room there, or move docker's data-root to a larger disk"
    if free_bytes < image.image_bytes:
        return Check("image", State.PROBLEM, found, room)
    if free_bytes < image.unpacked_bytes:
        return Check("image", State.WARNING, f"{found} and takes more once unpacked", f"{pull}; if the disk fills up, {room}")
    return Check("image", State.OK, found, pull)


def _docker_fix(said: str) -> str:
    if "is not installed" in said:
        return "install Docker Engine: https://docs.docker.com/engine/install"
    if "permission denied" in said.lower():
        return "`sudo usermod -aG docker $USER`, then log in anew"
    return "`sudo systemctl start docker`; if it does not stay up, `journalctl -u docker`"


def _gib(amount_bytes: float | None) -> str:
    return "unknown" if amount_bytes is None else f"{amount_bytes / _GIB:.1f}"
