"""What nvidia-smi says is read as it is meant, and when it fails the way out is named."""

from pathlib import Path

import pytest

from build import ask
from build.gpu_info import Gpu, read_gpus, version_numbers
from tests.support.machine import Commands

MIB = 1 << 20


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setenv("PATH", str(tmp_path))
    return Commands(tmp_path)


def test_every_gpu_is_read_with_its_memory(commands: Commands) -> None:
    commands.nvidia_smi("three_rtx_3090")
    reading = read_gpus()
    assert (reading.problem, reading.cuda_version) == ("", "12.2")
    assert [gpu.index for gpu in reading.gpus] == [0, 1, 2]
    assert reading.gpus[1] == Gpu(1, "NVIDIA GeForce RTX 3090", "535.230.02", "8.6", 24576 * MIB, 12288 * MIB, 11967 * MIB)


def test_it_is_asked_for_the_columns_that_are_read(commands: Commands) -> None:
    commands.nvidia_smi("l4")
    assert read_gpus().gpus[0].name == "NVIDIA L4"
    fields = "index,name,driver_version,compute_cap,memory.total,memory.used,memory.free"
    assert commands.asked() == [f"nvidia-smi --query-gpu={fields} --format=csv", "nvidia-smi "]


def test_memory_that_is_not_told_is_unknown_not_zero(commands: Commands) -> None:
    commands.installed("nvidia-smi", 'case "$*" in *--query*) cat tests/data/nvidia_smi/memory_not_told.csv ;; *) exit 1 ;; esac')
    reading = read_gpus()
    assert (reading.gpus[0].total_bytes, reading.gpus[0].used_bytes, reading.gpus[0].free_bytes) == (None, None, None)
    assert reading.cuda_version is None


@pytest.mark.parametrize(
    ("answer", "status", "said", "fix"),
    [
        ("driver_not_loaded", 9, "couldn't communicate with the NVIDIA driver", "install it for this kernel"),
        ("driver_updated", 18, "Driver/library version mismatch", "restart the machine"),
        ("no_devices", 6, "No devices were found", "lspci"),
        ("old_driver", 2, '"compute_cap" is not a valid field', "525 or newer"),
        ("l4", 255, "NVIDIA-SMI 575.57.08", "dmesg"),
    ],
)
def test_a_failure_is_told_with_what_helps(commands: Commands, answer: str, status: int, said: str, fix: str) -> None:
    commands.broken_nvidia_smi(answer, status)
    reading = read_gpus()
    assert reading.gpus == ()
    assert said in reading.problem
    assert "\n" not in reading.problem
    assert fix in reading.fix


def test_without_nvidia_smi_the_driver_is_named(commands: Commands) -> None:
    reading = read_gpus()
    assert reading.problem == "nvidia-smi is not installed"
    assert "install the NVIDIA driver" in reading.fix


def test_a_driver_that_hangs_is_given_up(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "_PATIENCE_S", 0.2)
    commands.installed("nvidia-smi", "exec sleep 60")
    assert "no answer" in read_gpus().problem
    assert "driver hangs" in read_gpus().fix


@pytest.mark.parametrize(
    "answer",
    ["something else entirely", "index, name\n0, NVIDIA L4", "index, name, driver_version, compute_cap, memory.total\n0, x, 1, 2, many"],
)
def test_an_answer_of_another_form_is_no_traceback(commands: Commands, answer: str) -> None:
    commands.installed("nvidia-smi", f"echo '{answer}'")
    reading = read_gpus()
    assert reading.gpus == ()
    assert reading.problem != ""
    assert reading.fix != ""


def test_driver_versions_are_compared_as_numbers() -> None:
    assert version_numbers("535.230.02") == (535, 230, 2)
    assert version_numbers("1000.1") > version_numbers("575.57.08") > version_numbers("535.86.05") > (535, 86)
