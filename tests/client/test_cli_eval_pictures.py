"""pika-tag eval --pictures: what is drawn, and what is found out before anything is sent."""

import sys
import tomllib
from pathlib import Path

import pytest

import pika_tagger
from pika_tagger import _pictures
from tests.client.evaluation import Evaluation
from tests.support.fake_triton import FakeTriton

NAMES = ["celebrate.png", "confusion.png", "reliability.png"]


def test_pictures_are_put_into_a_new_folder_beside_the_report(evaluation: Evaluation, tmp_path: Path) -> None:
    assert evaluation.run("--pictures", str(tmp_path / "pictures"))[0] == 0
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == NAMES
    assert evaluation.out.exists()


def test_pictures_replace_older_ones(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "confusion.png").write_text("old")
    assert evaluation.run("--pictures", str(tmp_path))[0] == 0
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_is_sent(
    evaluation: Evaluation, server: FakeTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pika_tagger._pictures")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, shown, errors = evaluation.run("--pictures", str(tmp_path / "pictures"))
    assert (status, shown) == (2, "")
    assert errors.startswith("pika-tag: --pictures needs matplotlib (")
    assert errors.endswith("): pip install 'pika-tagger[report]'\n")
    assert server.requests == []
    assert not (tmp_path / "pictures").exists()


def test_the_extra_that_the_message_names_brings_matplotlib() -> None:
    settings = tomllib.loads((Path(pika_tagger.__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (needed,) = settings["project"]["optional-dependencies"]["report"]
    assert needed.startswith("matplotlib")
    assert not any(each.startswith("matplotlib") for each in settings["project"]["dependencies"])


def test_without_matplotlib_an_evaluation_without_pictures_works(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pika_tagger._pictures")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert evaluation.run()[0] == 0


@pytest.mark.parametrize(("where", "reason"), [("labelled.jsonl", "File exists"), ("nowhere/pictures", "No such file or directory")])
def test_a_folder_that_cannot_be_made_is_refused_before_the_run(
    evaluation: Evaluation, server: FakeTriton, tmp_path: Path, where: str, reason: str
) -> None:
    status, _, errors = evaluation.run("--pictures", str(tmp_path / where))
    assert status == 2
    assert f"cannot be made ({reason}): give a folder" in errors
    assert server.requests == []


def test_a_disk_that_fails_at_the_pictures_leaves_report_and_screen(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_pictures, "write_bytes", full)
    status, shown, errors = evaluation.run("--pictures", str(tmp_path / "pictures"))
    assert status == 1
    assert "3 / 4" in shown
    assert "pictures were not written: No space left on device" in errors
    assert evaluation.report["figures"]["emotion"]["right"] == 3
