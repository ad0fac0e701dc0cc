"""The GPUs of this machine, as nvidia-smi tells them. Only the standard library is used.

Asked for: `nvidia-smi --query-gpu=FIELDS --format=csv`, whose first line names the columns and their units, and plain `nvidia-smi`, which
alone names the driver's CUDA version. A new field is added to `_FIELDS` and to `Gpu`.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass

from build.ask import Answer, ask

_FIELDS = ("index", "name", "driver_version", "compute_cap", "memory.total", "memory.used", "memory.free")
_UNITS_BYTES = {"MiB": 1 << 20, "KiB": 1 << 10, "GiB": 1 << 30}

# What nvidia-smi says when it fails -> what helps. The first that occurs counts.
_REMEDIES = (
    ("is not installed", "install the NVIDIA driver: on Ubuntu `sudo ubuntu-drivers install --gpgpu`, then restart"),
    ("version mismatch", "the driver was updated while it was running: restart the machine"),
    (
        "communicate with the NVIDIA driver",
        "the driver is not loaded: install it for this kernel (`sudo ubuntu-drivers install --gpgpu`) and restart",
    ),
    (
        "No devices were found",
        "no GPU is visible: look at `lspci | grep -i nvidia` and `sudo dmesg | grep -i nvrm`; in a container, start it with `--gpus all`",
    ),
    ("not a valid field", "this driver is too old for what is asked: install 525 or newer, better 575"),
    ("no answer", "the driver hangs: look at `sudo dmesg | grep -i -e nvrm -e xid`, then restart the machine"),
)
_NO_REMEDY = "look at `sudo dmesg | grep -i nvrm`; if that says nothing, install the driver anew"


@dataclass(frozen=True)
class Gpu:
    """One GPU as it is now. Amounts are None where the driver does not tell them."""

    index: int
    name: str
    driver: str
    compute_capability: str
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None


@dataclass(frozen=True)
class Reading:
    """What nvidia-smi said.

    Attributes:
        gpus: In nvidia-smi's order; empty if there is a problem.
        cuda_version: The newest CUDA that the driver knows by itself; None if it does not say.
        problem: Why there are none; empty if there are.
        fix: What helps.
    """

    gpus: tuple[Gpu, ...] = ()
    cuda_version: str | None = None
    problem: str = ""
    fix: str = ""


def read_gpus() -> Reading:
    """Ask nvidia-smi."""
    answer = ask("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv")
    if not answer.ok:
        return _failed(answer)
    try:
        gpus = tuple(_gpu(row) for row in csv.DictReader(answer.output.splitlines(), skipinitialspace=True))
    except (KeyError, ValueError, AttributeError) as error:
        return Reading(problem=f"nvidia-smi's answer is of another form ({type(error).__name__}: {error})", fix=_NO_REMEDY)
    if not gpus:
        return _failed(answer)
    banner = re.search(r"CUDA Version\s*:\s*(\d+\.\d+)", ask("nvidia-smi").output)
    return Reading(gpus, banner[1] if banner else None)


def version_numbers(text: str) -> tuple[int, ...]:
    """A driver version such as 535.230.02 for comparing."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _failed(answer: Answer) -> Reading:
    fix = next((remedy for sign, remedy in _REMEDIES if sign in answer.said), _NO_REMEDY)
    return Reading(problem=answer.said.rstrip("."), fix=fix)


def _gpu(row: Mapping[str, str]) -> Gpu:
    # "memory.total [MiB]" -> "memory.total": the unit stands behind the amount as well.
    values = {column.split(" [")[0]: value for column, value in row.items()}
    return Gpu(
        index=int(values["index"]),
        name=values["name"],
        driver=values["driver_version"],
        compute_capability=values["compute_cap"],
        total_bytes=_bytes(values["memory.total"]),
        used_bytes=_bytes(values["memory.used"]),
        free_bytes=_bytes(values["memory.free"]),
    )


def _bytes(text: str) -> int | None:
    # Words in brackets, such as [N/A] or [Unknown Error], stand where there is no amount.
    if text.startswith("["):
        return None
    amount, unit = text.split()
    return int(amount) * _UNITS_BYTES[unit]
