"""An engine on the wrong machine is refused before a server starts, with both sides of each difference."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from build import ROOT, engine_record, manifest
from build.container import Machine
from build.engine_record import EngineRecord
from build.errors import EngineError, ManifestError

BUILT = Machine("1.0.0", "10.11.0.33", "NVIDIA L4", "8.9", "570.124.06")
RECORD = EngineRecord("l4", "an image", BUILT, "c" * 64, "a" * 64, ("--max_seq_len", "2016"), 8, 2016, 32)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine-l4"
    with manifest.new_folder(folder, "build_engine", {}, {}, {}) as draft:
        (draft.path / "rank0.engine").write_text("an engine")
        engine_record.write(RECORD, draft.path)
    return folder


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


@pytest.mark.parametrize(
    ("content", "words"), [("an eng", r"has 6 bytes, manifest\.json says 9"), ("an ENGINE", "SHA-256 differs"), (None, "is missing")]
)
def test_an_engine_that_is_not_whole_is_refused(engine: Path, content: str | None, words: str) -> None:
    engine_record.require_whole(engine)
    (engine / "rank0.engine").unlink() if content is None else (engine / "rank0.engine").write_text(content)
    with pytest.raises(ManifestError, match=words):
        engine_record.require_whole(engine)


def test_an_engine_of_which_nobody_knows_whether_it_is_whole_is_refused(engine: Path) -> None:
    (engine.parent / manifest.NAME).write_text(
        '{"schema": 1, "files": {}, "stage": "other", "inputs": {}, "settings": {}, "tools": {}, "finished_utc": "", "duration_s": 0}'
    )  # of a folder that it lies in, about other files
    (engine / manifest.NAME).unlink()
    with pytest.raises(EngineError, match=r"no manifest\.json lists .*engine_record\.json"):
        engine_record.require_whole(engine)


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


def test_the_command_refuses_an_engine_that_was_cut_short_before_it_asks_the_machine(engine: Path, tmp_path: Path) -> None:
    (engine / "rank0.engine").write_text("an eng")
    done = run(engine, tmp_path / "no tools")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {engine / 'rank0.engine'} has 6 bytes, manifest.json says 9: ")


def test_without_tensorrt_the_command_fails_and_says_so(engine: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    done = run(engine, tools)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this machine: python3 ended with status 1:")
    assert "No module named 'tensorrt'" in done.stderr
