"""Why a build failed, as far as the end of its log tells.

A row of `_CAUSES` is a piece of a message that docker, the NVIDIA container tools, CUDA, TensorRT or TensorRT-LLM really prints, and what
to do about it. tests/build/test_build_causes.py has such messages as people got them. Rows that are more telling come first.
"""

import re
from collections.abc import Sequence

_KILLED = (137, -9)

_CAUSES = (
    (
        r"permission denied while trying to connect to the Docker daemon socket",
        "this user may not use docker: `sudo usermod -aG docker $USER`, then log in again",
    ),
    (r"Cannot connect to the Docker daemon", "docker is not running: `sudo systemctl start docker`"),
    (
        r"could not select device driver .* with capabilities: \[\[gpu\]\]",
        "docker cannot reach GPUs: install the NVIDIA Container Toolkit, then `sudo nvidia-ctk runtime configure --runtime=docker` and "
        "`sudo systemctl restart docker`",
    ),
    (
        r"unsatisfied condition: cuda>=",
        "the driver is older than the image asks for: update the driver of this machine; docs/gpu_target.md says what branch 535 can do",
    ),
    (
        r"forward compatibility was attempted on non supported HW",
        "the image took its own CUDA driver libraries, which a GeForce GPU does not allow: update the driver of this machine",
    ),
    (
        r"CUDA driver version is insufficient for CUDA runtime version",
        "the driver is too old for the image: update the driver of this machine",
    ),
    (
        r"no kernel image is available for execution on the device",
        "a library has no code for this GPU: check that target= names the GPU that is in the machine",
    ),
    (
        r"The NVIDIA Driver was not detected|nvml error: driver not loaded|No CUDA GPUs are available",
        "there is no GPU in the container: run nvidia-smi on this machine, and `docker run --rm --gpus all ubuntu nvidia-smi`",
    ),
    (
        r"CUDA out of memory|Cuda Runtime \(out of memory\)|OutOfMemory|could not be allocated\. There may not be enough free memory",
        "the GPU's memory is full: stop another service for the build, or choose another GPU with gpu=NUMBER",
    ),
    (
        r"No space left on device",
        "the disk is full: make room for the image (about 16 GB) and for the engine (about as large as the checkpoint)",
    ),
    (r"unrecognized arguments", "trtllm-build does not know a flag: this is another version than presets.toml names under [container]"),
    (r"Required but not provided tensors", "the checkpoint lacks tensors: convert it again, `doit convert`, with this version of the code"),
)


def likely(status: int, lines: Sequence[str]) -> str | None:
    """The likely cause and its fix; None if nothing in the log says it.

    Args:
        status: what the process ended with; negative for a signal.
        lines: the end of its log.
    """
    text = "\n".join(lines)
    for pattern, cause in _CAUSES:
        if re.search(pattern, text):
            return cause
    if status in _KILLED:
        return "it was killed, most often because the machine's memory was full: stop other programs, or add swap"
    return None
