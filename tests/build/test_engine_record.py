"""An engine on the wrong machine is refused before a server starts, with both sides of each difference."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from build import ROOT, engine_record
from build.container import Machine
from build.engine_record import EngineRecord
from build.errors import EngineError

BUILT = Machine("1.0.0", "10.11.0.33", "NVIDIA L4", "8.9", "570.124.06")
RECORD = EngineRecord("l4", "an image", BUILT, "c" * 64, "a" * 64, ("--max_seq_len", "2016"), 8, 2016, 32)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    engine_record.write(RECORD, tmp_path)
    return tmp_path


def test_a_record_is_read_as_it_was_written(engine: Path) -> None:
    assert engine_record.read(engine) == RECORD


def test_the_machine_that_built_an_engine_may_run_it(engine: Path) -> None:
    engine_record.require(engine, BUILT)
    engine_record.require(engine, replace(BUILT, driver="570.200.01"))  # a newer one of the same branch


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensorrt_llm": "1.2.1"}, "TensorRT-LLM: built with 1.0.0, here is 1.2.1"),
        ({"tensorrt": "10.14.1.48"}, "TensorRT: built with 10.11.0.33, here is 10.14.1.48"),
        ({"gpu": "NVIDIA A10G"}, "GPU: built with NVIDIA L4, here is NVIDIA A10G"),
        ({"compute_capability": "8.6"}, "compute capability: built with 8.9, here is 8.6"),
        ({"driver": "535.230.02"}, "driver branch: built with 570, here is 535"),
    ],
)
def test_another_machine_is_refused_with_both_sides(engine: Path, change: dict[str, str], words: str) -> None:
    with pytest.raises(EngineError) as caught:
        engine_record.require(engine, replace(BUILT, **change))
    assert [line.strip() for line in str(caught.value).splitlines()][1:-1] == [words]


def test_an_engine_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no engine_record\.json: build the engine again"):
        engine_record.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": {}, "flags": []}'])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / engine_record.NAME).write_text(text)
    with pytest.raises(EngineError, match=r"engine_record\.json is damaged"):
        engine_record.read(tmp_path)


def run(engine: Path, tools: Path) -> "subprocess.CompletedProcess[str]":
    # -S: no packages are installed in the container's Python that this environment has.
    code = "import runpy, sys; sys.argv = ['engine_record', sys.argv[1]]; runpy.run_module('build.engine_record', run_name='__main__')"
    line = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", str(engine)]
    return subprocess.run(line, env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("gpu", "status"), [("NVIDIA L4, 8.9, 570.124.06", 0), ("NVIDIA A10G, 8.6, 570.124.06", 1)])
def test_the_command_for_a_container_needs_only_the_standard_library(engine: Path, tmp_path: Path, gpu: str, status: int) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, says in (("nvidia-smi", gpu), ("python3", "1.0.0 10.11.0.33")):
        (tools / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tools / name).chmod(0o755)
    done = run(engine, tools)
    assert (done.returncode, done.stdout) == (status, "")
    assert ("GPU: built with NVIDIA L4, here is NVIDIA A10G" in done.stderr) == (status == 1)


def test_without_tensorrt_the_command_fails_and_says_so(engine: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    done = run(engine, tools)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this machine: python3 ended with status 1:")
    assert "No module named 'tensorrt'" in done.stderr
