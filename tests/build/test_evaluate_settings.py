"""Task `evaluate`: how its settings are read, and what doit hands over."""

import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doit import doit_cmd

from build import ROOT, evaluate, settings
from build.errors import SettingError
from build.evaluate import Asked
from build.settings import Ports
from one_pass import Task
from pika_tagger._labelled import load
from pika_tagger._wanted import Wanted

NOTHING: dict[str, str | None] = dict.fromkeys(evaluate.SETTINGS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.touch()
    return path


def test_without_settings_the_hand_written_dialogues_are_used_and_nothing_is_wanted() -> None:
    assert evaluate.asked(NOTHING) == Asked(evaluate.DIALOGUES, Wanted(), None)


def test_settings_are_read_from_the_command_line(data: Path) -> None:
    given = {"data": str(data), "min_emotion": "0.92", "min_celebrate": "0.97", "max_ece": "0.08", "max_awq_loss": "0.01"}
    assert evaluate.asked(given) == Asked(data, Wanted(min_emotion=0.92, min_celebrate=0.97, max_ece=0.08), 0.01)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("min_emotion", "92", "min_emotion=92 is no share; give a number between 0 and 1"),
        ("max_ece", "low", "max_ece=low is no share"),
        ("max_awq_loss", "-0.01", "max_awq_loss=-0.01 is no share"),
        ("min_celebrate", "nan", "min_celebrate=nan is no share"),
        ("data", "nowhere.jsonl", "data=nowhere.jsonl is not a file; give labelled JSON lines, as docs/evaluation.md shows"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(name: str, text: str, complaint: str) -> None:
    with pytest.raises(SettingError) as caught:
        evaluate.asked(NOTHING | {name: text})
    assert str(caught.value).startswith(complaint)


def test_the_line_that_the_documentation_shows_can_be_evaluated(tmp_path: Path) -> None:
    (line,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "own.jsonl").write_text(line, encoding="utf-8")
    labelled = load(tmp_path / "own.jsonl")
    labelled.check_labels(Task.load(settings.TASKS / "pika_mood.toml").label_names)
    assert [row.id for row in labelled.rows] == ["k-017"]


@pytest.fixture
def dodo_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Any, ...]]]:
    """Give settings to doit, run the task's action, and return what `evaluate` is called with."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(evaluate, "evaluate", lambda *arguments: calls.append(arguments))

    def run(**given: str) -> tuple[Any, ...]:
        doit_cmd.reset_vars()
        for name, text in given.items():
            doit_cmd.set_var(name, text)
        (action,) = runpy.run_path(str(ROOT / "dodo.py"))["task_evaluate"]()["actions"]
        assert action() is None
        return calls[-1]

    yield run
    doit_cmd.reset_vars()


def test_doit_hands_over_data_and_limits(dodo_runs: Callable[..., tuple[Any, ...]], data: Path) -> None:
    model, target, ports, what = dodo_runs(model="phi-3-mini", data=str(data), min_celebrate="0.97", max_awq_loss="0.01")
    assert (model.name, target.name, ports) == ("phi-3-mini", "cpu", None)
    assert what == Asked(data, Wanted(min_celebrate=0.97), 0.01)


def test_doit_hands_over_ports_only_if_one_is_given(dodo_runs: Callable[..., tuple[Any, ...]]) -> None:
    assert dodo_runs()[2] is None
    assert dodo_runs(http_port="9000")[2] == Ports(8001, 9000, 8002)
