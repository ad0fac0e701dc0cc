"""What a stage was told is remembered with what it made: later calls need not repeat it, and can change it or take it back."""

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit import doit_cmd

from build import ROOT, manifest, settings
from tests.support.checkout import checkpoint

COMMIT, OTHER = "a" * 40, "b" * 40
# doit as it is called, except for where the results are.
PROGRAM = """
import sys
from pathlib import Path
from doit.doit_cmd import DoitMain
from build import settings
settings.CHECKPOINTS = Path(sys.argv[1])
sys.exit(DoitMain().run(sys.argv[2:]))
"""


class Box:
    """A machine whose results are in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hf = folder / "checkpoints" / "phi-3-mini" / "hf"

    def download(self, *given: str) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "-c", PROGRAM, str(self.folder / "checkpoints")]
        options = ["--db-file", str(self.folder / "doit.db"), "model=phi-3-mini", *given]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(self.folder / "no cache")}
        return subprocess.run(
            [*program, "run", *options, "download"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_source_is_given_once(box: Box) -> None:
    source = checkpoint(box.folder / "mine")
    first = box.download(f"source={source}")
    assert first.returncode == 0, first.stdout + first.stderr
    made = manifest.verify_contents(box.hf)
    again = box.download()
    assert (again.returncode, again.stdout) == (0, "-- download\n")
    (box.hf / "config.json").unlink()
    mended = box.download()
    assert f"{source}: 0.0 MB" in mended.stdout
    assert manifest.verify_contents(box.hf).content_hash == made.content_hash


def test_a_source_that_is_gone_is_told_with_both_ways_out(box: Box) -> None:
    source = checkpoint(box.folder / "mine")
    box.download(f"source={source}")
    shutil.rmtree(source)
    assert box.download().returncode == 0  # nothing has to be made
    (box.hf / "config.json").unlink()
    failed = box.download()
    assert failed.returncode == 1
    assert f"source={source} is not a directory: give another one, or `doit source= download`" in failed.stdout + failed.stderr
    back = box.download("source=")
    assert back.returncode == 1
    assert "microsoft/Phi-3-mini-4k-instruct" in back.stdout + back.stderr  # asked for, and not to be had here


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the model that doit works on without being told, with nothing in it."""
    monkeypatch.setattr(settings, "CHECKPOINTS", tmp_path)
    yield tmp_path / "pika-tiny"
    doit_cmd.reset_vars()


def dodo(**given: str) -> dict[str, object]:
    doit_cmd.reset_vars()
    for name, value in given.items():
        doit_cmd.set_var(name, value)
    return runpy.run_path(str(ROOT / "dodo.py"))


def value(name: str, **given: str) -> object:
    """What a setting came to, by its name; layouts by theirs."""
    found = dodo(**given)[name.upper()]
    return getattr(found, "name", found)


@pytest.mark.parametrize(
    ("folder", "name", "told", "other", "default"),
    [
        ("hf", "source", "/data/phi3", "/data/other", None),
        ("hf", "revision", COMMIT, OTHER, None),
        ("awq", "awq_source", "/data/awq", "/data/other", None),
        ("trtllm", "layout", "gptq", "awq", "awq"),
        ("triton-cpu", "strategy", "words", "json", "codes"),
    ],
)
def test_a_setting_stays_until_another_is_given_or_it_is_taken_back(
    results: Path, folder: str, name: str, told: str, other: str, default: str | None
) -> None:
    assert value(name) == default
    with manifest.new_folder(results / folder, "some stage", {}, {name: told}, {}):
        pass
    assert value(name) == told
    assert value(name, **{name: other}) == other
    assert value(name, **{name: ""}) == default


def test_streaming_stays_until_it_is_taken_back(results: Path) -> None:
    assert value("decoupled") is False
    with manifest.new_folder(results / "triton-cpu", "model_repository", {}, {"decoupled": "yes"}, {}):
        pass
    assert value("decoupled") is True
    assert value("decoupled", decoupled="no") is False
    assert value("decoupled", decoupled="") is False


@pytest.mark.parametrize(("told", "given"), [("source", "revision"), ("revision", "source")])
def test_of_two_that_exclude_each_other_the_new_one_counts(results: Path, told: str, given: str) -> None:
    with manifest.new_folder(results / "hf", "download", {}, {told: "as told"}, {}):
        pass
    namespace = dodo(**{given: "as given"})
    assert (namespace[told.upper()], namespace[given.upper()]) == (None, "as given")


def test_what_is_kept_changes_nothing_for_doit(results: Path) -> None:
    def remembered(**given: str) -> list[object]:
        namespace = dodo(**given)
        tasks = [namespace[f"task_{name}"]() for name in ("download", "quantize", "convert", "model_repository")]  # type: ignore[operator]
        return [task["uptodate"][0].config for task in tasks]

    given = {"source": "/data/phi3", "awq_source": "/data/awq", "layout": "gptq", "strategy": "words", "decoupled": "yes"}
    before = remembered(**given)
    assert all(config != other for config, other in zip(before, remembered(), strict=True))
    made = {"hf": ["source"], "awq": ["awq_source"], "trtllm": ["layout"], "triton-cpu": ["strategy", "decoupled"]}
    for folder, names in made.items():
        with manifest.new_folder(results / folder, "some stage", {}, {name: given[name] for name in names}, {}):
            pass
    assert remembered() == before
