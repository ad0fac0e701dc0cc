"""Task `evaluate` from end to end: real server, real engine, real checkpoint; its figures are those of `pika-tag eval`."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from build import evaluate, manifest, settings
from build.evaluate import Asked
from pika_tagger import TaggerClient
from pika_tagger._labelled import load
from pika_tagger._outcomes import run
from pika_tagger._wanted import Wanted
from tests.e2e.conftest import EVALUATION, MODEL

pytestmark = pytest.mark.e2e

N_DIALOGUES = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the hand-written dialogues."""
    path = tmp_path_factory.mktemp("data") / "some.jsonl"
    lines = EVALUATION.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(random.Random(3).sample(lines, N_DIALOGUES)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def report(repository: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """report.json of an evaluation that leaves the checkout's own as it is."""
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    (checkpoints / MODEL.name).mkdir()
    for name in ("hf", "triton-cpu"):
        (checkpoints / MODEL.name / name).symlink_to(MODEL.folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "CHECKPOINTS", checkpoints)
        evaluate.evaluate(MODEL, settings.target("cpu"), None, Asked(data, Wanted(), None))
        folder = MODEL.folder / "evaluation-cpu"
    assert len(manifest.verify_contents(folder).files) == 5
    content: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return content


def test_every_way_of_asking_is_evaluated_on_every_dialogue(report: dict[str, Any]) -> None:
    assert list(report["runs"]) == ["codes", "words", "json", "unquantized"]
    for run_of_rows in report["runs"].values():
        assert "refusal" not in run_of_rows
        assert len(run_of_rows["predictions"]) == N_DIALOGUES
    for name in ("codes", "words", "unquantized"):
        assert report["runs"][name]["figures"]["failed"] == 0


def test_codes_are_answered_as_the_running_server_answers_them(report: dict[str, Any], client: TaggerClient, data: Path) -> None:
    for outcome, found in zip(run(client, load(data).rows, 0.0, "codes"), report["runs"]["codes"]["predictions"], strict=True):
        assert outcome.tag is not None
        assert (outcome.tag.emotion_name, outcome.tag.celebrate) == (found["emotion_name"], found["celebrate"] == "yes")
        assert outcome.tag.celebrate_score == pytest.approx(found["celebrate_score"], abs=1e-4)


def test_quantization_changes_few_answers_and_is_not_without_a_trace(report: dict[str, Any]) -> None:
    codes, full = (report["runs"][name]["predictions"] for name in ("codes", "unquantized"))
    for field in ("emotion", "celebrate"):
        assert report["awq_against_unquantized"][field]["changed_rows"] <= N_DIALOGUES * 0.15
    differing = [abs(a["celebrate_score"] - b["celebrate_score"]) for a, b in zip(codes, full, strict=True)]
    assert max(differing) > 1e-4  # the two are not the same weights
