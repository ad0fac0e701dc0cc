"""The threshold of celebrate: from validation to the prompt file, and nothing else of the file is touched."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from build import ROOT, settings
from build.training import threshold
from one_pass import Task

EMBEDDED = settings.model("pika-tiny")


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the embedded model's prompt file, in the place where it is looked for."""
    monkeypatch.setattr(settings, "TASKS", tmp_path)
    (tmp_path / f"{EMBEDDED.task}.toml").write_bytes((ROOT / "model_repository/tagger/prompts" / f"{EMBEDDED.task}.toml").read_bytes())
    return EMBEDDED.task_file


@pytest.mark.parametrize("value", [0.05, 0.35, 0.9])
def test_one_line_is_changed(task_file: Path, value: float) -> None:
    before, task = task_file.read_bytes().splitlines(keepends=True), Task.load(task_file)
    threshold.store(task_file, value)
    changes = [(one, other) for one, other in zip(before, task_file.read_bytes().splitlines(keepends=True), strict=True) if one != other]
    assert [new for _, new in changes] == [f"threshold = {value}\n".encode()]
    assert Task.load(task_file) == replace(task, flag_threshold=value)


def test_the_same_threshold_again_changes_nothing(task_file: Path) -> None:
    before = task_file.read_bytes()
    threshold.store(task_file, Task.load(task_file).flag_threshold)
    assert task_file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("# threshold = 0.5\n", 0), ("threshold = high\n", 0), ("threshold = 0.5\nx = 1\nthreshold = 0.6\n", 2)],
)
def test_a_file_without_exactly_one_threshold_is_refused_and_left_alone(tmp_path: Path, text: str, count: int) -> None:
    file = tmp_path / "odd.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"odd\.toml has {count} lines `threshold = NUMBER`"):
        threshold.store(file, 0.7)
    assert file.read_text() == text


def test_the_command_takes_it_from_the_checkpoint(
    task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"threshold_chosen_on_validation": 0.85}))
    monkeypatch.setattr(sys, "argv", ["threshold", str(tmp_path)])
    threshold.main()
    assert Task.load(task_file).flag_threshold == 0.85
    assert capsys.readouterr().out.startswith(f"{task_file.name}: threshold = 0.85")


def test_the_prompt_file_has_what_was_chosen_for_the_embedded_model() -> None:
    training = json.loads((ROOT / "checkpoints" / "pika-tiny" / "hf" / "training.json").read_text())
    assert Task.load(EMBEDDED.task_file).flag_threshold == training["threshold_chosen_on_validation"]
