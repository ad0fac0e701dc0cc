"""The pictures of a training run say what its training.json says."""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from build import ROOT, settings
from build.training import report
from one_pass import Task

EMBEDDED = ROOT / "checkpoints" / "pika-tiny" / "hf"
LABELS = Task.load(settings.model("pika-tiny").task_file).label_names
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    return dict(json.loads((EMBEDDED / "training.json").read_text()))


def test_the_command_writes_both_pictures_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "not" / "there yet"
    monkeypatch.setattr(sys, "argv", ["report", str(EMBEDDED), str(out)])
    report.main()
    assert sorted(path.name for path in out.iterdir()) == ["training_confusion.png", "training_curves.png"]
    for path in out.iterdir():
        content = path.read_bytes()
        assert content.startswith(SIGNATURE)
        width, height = struct.unpack(">II", content[16:24])
        assert min(width, height) > 400
        assert 0.02 < (imread(path)[..., :3].min(axis=-1) < 0.9).mean() < 0.98  # neither blank nor filled


def test_the_curves_are_those_of_the_run(training: dict[str, Any]) -> None:
    losses, shares = report.curves(training).axes
    drawn = {str(line.get_label()): np.asarray(line.get_xydata()) for axes in (losses, shares) for line in axes.lines}
    meant = {meaning: name for name, meaning in report.LOSSES.items()} | {n: f"validation_{n}" for n in ("emotion", "celebrate")}
    assert drawn.keys() == meant.keys()
    for label, points in drawn.items():
        assert points.tolist() == [[row["step"], row[meant[label]]] for row in training["curve"]]


def test_every_loss_of_the_run_has_a_curve(training: dict[str, Any]) -> None:
    figures = {name for name in training["curve"][0] if name != "step" and not name.startswith("validation_")}
    assert figures == report.LOSSES.keys()


def test_the_title_says_which_run_it_was(training: dict[str, Any]) -> None:
    title = report.curves({**training, "parameters": 3_210_000, "seed": 77, "duration_s": 45, "device": "some GPU"}).get_suptitle()
    assert title == "3.2 M parameters, seed 77, 45 s on some GPU"


def test_truth_is_in_rows_and_predictions_in_columns(training: dict[str, Any]) -> None:
    counts = training["test"]["clean"]["confusion"]
    (axes,) = report.confusion(counts, LABELS).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [tick.get_text() for tick in axes.get_xticklabels()] == list(LABELS)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    assert str(sum(map(sum, counts))) in axes.get_title()
    written = {tuple(map(int, text.get_position())): int(text.get_text()) for text in axes.texts}
    assert written == {(x, y): count for y, row in enumerate(counts) for x, count in enumerate(row) if count}
    coloured = np.asarray(axes.images[0].get_array())
    assert coloured.shape == (len(LABELS), len(LABELS))
    for y, row in enumerate(counts):
        assert list(coloured[y]) == pytest.approx([count / sum(row) for count in row])


def test_an_emotion_that_never_was_true_has_an_empty_row() -> None:
    (axes,) = report.confusion([[0, 0], [1, 3]], ("happy", "sad")).axes
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0, 0], [0.25, 0.75]]
