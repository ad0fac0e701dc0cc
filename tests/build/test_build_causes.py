"""The likely cause is found in messages as people got them, and nothing is made up where a log says nothing."""

import os

import pytest

from build import build_causes

# Each message as it stands in the thread named, shortened at its ends.
MESSAGES = {
    "https://github.com/NVIDIA/nvidia-docker/issues/1352": (
        'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
        "install the NVIDIA Container Toolkit",
    ),
    "https://github.com/theroyallab/tabbyAPI/issues/324": (
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a newer version, "
        "or use an earlier cuda container: unknown",
        "the driver is older than the image asks for",
    ),
    "https://github.com/NVIDIA/TensorRT-LLM/issues/1806": (
        "CUDA runtime error in cudaGetDevice(&device): forward compatibility was attempted on non supported HW",
        "a GeForce GPU does not allow",
    ),
    "https://github.com/NVIDIA/TensorRT/issues/1786": (
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0",
        "the driver is too old for the image",
    ),
    "https://github.com/triton-inference-server/server/issues/2674": (
        "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available.",
        "there is no GPU in the container",
    ),
    "https://github.com/pytorch/TensorRT/issues/4227": (
        "Requested amount of GPU memory (149635638784 bytes) could not be allocated. There may not be enough free memory for allocation "
        "to succeed.",
        "the GPU's memory is full",
    ),
    "https://github.com/sdbds/TRELLIS-for-windows/issues/7": (
        "RuntimeError: CUDA out of memory. Tried to allocate 1740.15 GiB. GPU 0 has a total capacity of 24.00 GiB",
        "the GPU's memory is full",
    ),
}


@pytest.mark.parametrize("thread", MESSAGES)
def test_a_message_that_somebody_got_has_a_cause_and_a_fix(thread: str) -> None:
    message, words = MESSAGES[thread]
    cause = build_causes.likely(1, ["[TensorRT-LLM] starting", message, "Traceback (most recent call last):"])
    assert cause is not None
    assert words in cause
    assert ":" in cause


def test_a_full_disk_is_told_in_the_words_of_the_operating_system() -> None:
    cause = build_causes.likely(1, [f"OSError: [Errno 28] {os.strerror(28)}: 'rank0.engine'"])
    assert cause is not None
    assert cause.startswith("the disk is full")


def test_the_missing_gpu_is_told_before_what_follows_from_it() -> None:
    lines = [MESSAGES["https://github.com/triton-inference-server/server/issues/2674"][0], "OutOfMemory"]
    assert "no GPU in the container" in (build_causes.likely(1, lines) or "")


@pytest.mark.parametrize("status", [137, -9])
def test_a_process_that_was_killed_without_a_word_had_no_memory(status: int) -> None:
    assert "memory was full" in (build_causes.likely(status, ["[TRT] [I] Compiler backend is used during engine build."]) or "")


def test_nothing_is_guessed() -> None:
    assert build_causes.likely(1, ["KeyError: 'x'"]) is None
    assert build_causes.likely(1, []) is None
