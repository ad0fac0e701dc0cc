"""Task `evaluate`, with a stand-in for tritonserver and a real, random checkpoint: what is asked, what is written, what is judged.

The whole of it with the real server is in tests/e2e/test_evaluate.py.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from build import evaluate, manifest, settings
from build.errors import ManifestError, PipelineError, ServerError, SettingError
from build.evaluate import Asked
from build.settings import Ports
from build.unquantized import Unquantized
from one_pass import STRATEGIES, Task
from pika_tagger import _pictures
from pika_tagger._evaluate import Figures
from pika_tagger._labelled import load
from pika_tagger._wanted import Wanted
from tests.support import small_phi3
from tests.support.checkout import Checkout
from tests.support.fake_triton import FakeTriton, Reply, Request, reply_with

PIKA = "Chào An, tên cậu đẹp lắm!"
ROWS: list[dict[str, Any]] = [
    {"user_last_message": "proud yes", "pika_response": PIKA, "emotion": ["thats_right", "proud"], "celebrate": "yes"},
    {"user_last_message": "sad no", "pika_response": PIKA, "emotion": "happy", "celebrate": "no"},
    {"user_last_message": "calm no", "pika_response": PIKA, "emotion": "calm", "celebrate": "no"},
]
NOTHING: dict[str, str | None] = dict.fromkeys(evaluate.SETTINGS)


class Triton(FakeTriton):
    """Answers as the child says, by the strategies that it knows; `ports` are those that it was asked to serve on."""

    known: frozenset[str] = frozenset(STRATEGIES)
    ports: Ports | None = None

    def infer(self, message: Any, context: Any) -> Any:
        sent = dict(zip((tensor.name for tensor in message.inputs), message.raw_input_contents, strict=True))
        if "strategy" in sent and sent["strategy"][4:].decode() not in self.known:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "strategy is none that this tagger has")
        return super().infer(message, context)

    def wait_until_ready(self) -> None:
        """As that of the real server."""


def obey(request: Request) -> Reply:
    emotion, celebrate = request.texts["user_last_message"].split() if request.texts["pika_response"] == PIKA else ("calm", "no")
    return reply_with(emotion, celebrate)


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[Triton]:
    fake = Triton(reply=obey)
    with fake:

        @contextmanager
        def running(repository: Path, ports: Ports, log: Path) -> Iterator[Triton]:
            fake.ports = ports
            yield fake

        monkeypatch.setattr(evaluate, "running", running)
        yield fake


@pytest.fixture
def built(place: Checkout) -> Checkout:
    """A model with a repository and a checkpoint."""
    place.finished("triton-cpu", {"tagger/1/task.toml": (settings.TASKS / "pika_mood.toml").read_text(encoding="utf-8")})
    small_phi3.write(place.model.folder / "hf", "byte_level")
    manifest.seal(place.model.folder / "hf", "download", {}, {}, ["config.json", "model.safetensors", "tokenizer.json"])
    return place


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    return path


def folder(built: Checkout) -> Path:
    return built.model.folder / "evaluation-cpu"


def test_everything_is_asked_and_written(built: Checkout, triton: Triton, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    asked = [request.texts.get("strategy") for request in triton.requests if request.texts["pika_response"] == PIKA]
    assert asked == ["codes"] * 3 + ["words"] * 3 + ["json"] * 3
    assert manifest.verify_contents(folder(built)).files.keys() == {
        "report.json",
        "report.txt",
        "confusion.png",
        "reliability.png",
        "celebrate.png",
    }
    content = json.loads((folder(built) / "report.json").read_text(encoding="utf-8"))
    assert list(content["runs"]) == ["codes", "words", "json", "unquantized"]
    assert content["runs"]["words"]["figures"]["emotion"] == {"accuracy": 2 / 3, "right": 2, "total": 3}
    assert content["runs"]["unquantized"]["figures"]["emotion"]["total"] == 3
    assert content["runs"]["unquantized"]["figures"]["failed"] == 0
    assert content["settings"]["celebrate_threshold"] == Task.load(built.model.task_file).flag_threshold
    assert content["awq_against_unquantized"]["emotion"]["rows"] == 3
    text = (folder(built) / "report.txt").read_text(encoding="utf-8")
    assert text.startswith("small on target cpu, 3 dialogues of own.jsonl\n")
    assert " words      AWQ " in text
    assert "\n3 dialogues, strategy codes, AWQ weights, no pause between requests\n" in text
    assert "emotion      66.7%  2 / 3" in text
    shown = capsys.readouterr().out
    assert text in shown
    assert PIKA not in shown + text + json.dumps(content, ensure_ascii=False)


def test_the_pictures_are_of_the_answers_by_codes_with_the_threshold_of_the_task(
    built: Checkout, triton: Triton, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Figures, Path, str]] = []
    monkeypatch.setattr(_pictures, "write", lambda *arguments: drawn.append(arguments))
    triton.reply = lambda request: reply_with("calm", "yes" if request.texts.get("strategy") == "codes" else "no")
    evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    ((figures, _, title),) = drawn
    assert figures.celebrate_yes.false == 2
    threshold = Task.load(built.model.task_file).flag_threshold
    assert figures.celebrate_thresholds.present == (threshold, threshold)
    assert title == "codes, small AWQ"


def test_free_ports_are_taken_unless_some_are_given(built: Checkout, triton: Triton, data: Path) -> None:
    evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    assert triton.ports is not None
    numbers = list(vars(triton.ports).values())
    assert len(set(numbers)) == 3
    for number in numbers:
        with socket.create_server(("127.0.0.1", number)):
            pass
    evaluate.evaluate(built.model, built.target, Ports(1, 2, 3), Asked(data, Wanted(), None))
    assert triton.ports == Ports(1, 2, 3)


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ({"wanted": Wanted(min_emotion=0.7)}, "emotion accuracy 0.6667 is below the wanted 0.7"),
        ({"wanted": Wanted(max_ece=0.05)}, "emotion calibration error 0.0833 is above the wanted 0.05"),
    ],
)
def test_a_missed_limit_is_told_after_everything_is_written(
    built: Checkout, triton: Triton, data: Path, what: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(PipelineError, match="the model is not as good as asked for") as caught:
        evaluate.evaluate(built.model, built.target, None, replace(Asked(data, Wanted(), None), **what))
    assert complaint in str(caught.value)
    assert manifest.is_valid(folder(built))


def test_awq_must_not_lose_more_than_allowed(built: Checkout, triton: Triton, data: Path) -> None:
    """Every line is labelled as the checkpoint answers it, and the stand-in celebrates what it does not, and the other way round."""
    network = Unquantized(built.model.folder / "hf", Task.load(built.model.task_file), built.target.tokens_per_block)
    truth = {each.row.texts["user_last_message"]: each.predicted_celebrate for each in network.outcomes(load(data).rows)}
    labelled = [row | {"celebrate": truth[row["user_last_message"]]} for row in ROWS]
    data.write_text("".join(json.dumps(row) + "\n" for row in labelled), encoding="utf-8")
    triton.reply = lambda request: reply_with("calm", "no" if truth.get(request.texts["user_last_message"]) else "yes")
    evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), 1.0))
    with pytest.raises(PipelineError, match="celebrate: AWQ lost"):
        evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), 0.99))


def test_a_failed_request_by_codes_is_not_good_enough(built: Checkout, triton: Triton, data: Path) -> None:
    def fail_second(request: Request) -> Reply:
        if request.texts["user_last_message"] == "proud yes" and request.texts["strategy"] == "codes":
            triton.fail_with("INTERNAL", "broken", times=1)
        return obey(request)

    triton.reply = fail_second
    with pytest.raises(PipelineError, match="1 of 3 requests failed"):
        evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))


def test_a_refused_strategy_is_a_row_with_its_error(built: Checkout, triton: Triton, data: Path) -> None:
    triton.known = frozenset({"codes", "json"})
    evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    content = json.loads((folder(built) / "report.json").read_text(encoding="utf-8"))
    assert "strategy is none that this tagger has" in content["runs"]["words"]["refusal"]
    assert content["runs"]["json"]["figures"]["failed"] == 0
    assert "words was refused: " in (folder(built) / "report.txt").read_text(encoding="utf-8")


def test_a_server_without_codes_cannot_be_judged_and_leaves_the_old_report(built: Checkout, triton: Triton, data: Path) -> None:
    evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    before = (folder(built) / "report.json").read_bytes()
    triton.known = frozenset({"words", "json"})
    with pytest.raises(ServerError, match=r"the server cannot be asked for codes: .* strategy is none that this tagger has"):
        evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    assert (folder(built) / "report.json").read_bytes() == before
    assert built.left() == ["evaluation-cpu", "hf", "triton-cpu"]


def test_the_manifest_says_what_was_evaluated_on_what(built: Checkout, triton: Triton, data: Path) -> None:
    evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(min_emotion=0.5), 1.0))
    found = manifest.read(folder(built))
    assert found.inputs == {
        "repository": manifest.read(built.model.folder / "triton-cpu").content_hash,
        "hf": manifest.read(built.model.folder / "hf").content_hash,
        "data": manifest.sha256_of(data),
    }
    assert (found.settings["min_emotion"], found.settings["max_awq_loss"]) == (0.5, 1.0)


def test_a_bad_line_is_named_before_a_server_is_started(built: Checkout, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "running", None)
    data.write_text(json.dumps(ROWS[0] | {"emotion": "joyful"}) + "\n{\n")
    with pytest.raises(SettingError) as caught:
        evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    assert str(caught.value) == f"data={data} cannot be used:\n  line 2: not JSON (at column 2)"
    data.write_text(json.dumps(ROWS[0] | {"emotion": "joyful"}))
    with pytest.raises(SettingError, match="line 1: unknown emotion 'joyful'\n  the server's labels are happy, "):
        evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))


def test_at_most_twenty_bad_lines_are_shown(built: Checkout, data: Path) -> None:
    data.write_text("{\n" * 25)
    with pytest.raises(SettingError) as caught:
        evaluate.evaluate(built.model, built.target, None, Asked(data, Wanted(), None))
    assert str(caught.value).count("not JSON") == 20
    assert str(caught.value).endswith("\n  and 5 more")


def test_a_model_that_is_not_built_is_refused(place: Checkout, data: Path) -> None:
    with pytest.raises(ManifestError):
        evaluate.evaluate(place.model, place.target, None, Asked(data, Wanted(), None))


def test_other_tasks_do_not_need_the_hand_written_dialogues(monkeypatch: pytest.MonkeyPatch, built: Checkout, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluate, "DIALOGUES", tmp_path / "nowhere.jsonl")
    asked = evaluate.asked(NOTHING)
    with pytest.raises(SettingError, match=r"nowhere.jsonl cannot be used:\n  No such file or directory"):
        evaluate.evaluate(built.model, built.target, None, asked)
