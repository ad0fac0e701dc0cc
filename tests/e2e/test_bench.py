"""The benchmark against the real server: the strategies of one server beside each other."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from build import manifest, settings
from build.bench import task
from build.bench.__main__ import main
from build.bench.measure import Offer
from build.errors import SettingError
from build.serve import Server
from tests.bench.chat_server import ChatServer, running
from tests.e2e.conftest import EVALUATION, MODEL

CHAT_URL = os.environ.get("PIKA_CHAT_URL")
"""A real OpenAI-compatible server, if there is one to test with; docs/benchmark.md says how."""

pytestmark = pytest.mark.e2e


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Sixty dialogues of the evaluation file."""
    path = tmp_path / "some.jsonl"
    path.write_text("".join(EVALUATION.read_text(encoding="utf-8").splitlines(keepends=True)[:60]), encoding="utf-8")
    return path


def test_one_pass_is_quicker_than_the_answer_written_out_and_says_much_the_same(server: Server, some: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "verdict.json", tmp_path / "verdict.html"
    command = ["compare", f"grpc://{server.url}/json", f"grpc://{server.url}/codes", "--data", str(some), "--json", str(out)]
    assert main([*command, "--html", str(page)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["dialogues"] == 60
    assert found["in_turn"] is True
    # A pass for every token against one pass, on the same server and asked in turn.
    assert found["latency"][0]["ratio"]["low"] > 1
    assert len(found["disagreements"]) < 15
    assert all(each["b"] > 0.85 for each in found["accuracy"])
    assert "Disagreements" in page.read_text(encoding="utf-8")


def test_the_task_serves_what_is_built_and_leaves_a_page_about_both_sides(
    repository: Path, some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(task, "OFFERS", (Offer(20, callers=2),))
    monkeypatch.setattr(settings, "CHECKPOINTS", tmp_path)  # where a model has its folder
    model = replace(MODEL, name="elsewhere")
    model.folder.mkdir()
    (model.folder / "triton-cpu").symlink_to(repository)
    with running(ChatServer()) as chat:
        task.bench(model, settings.target("cpu"), None, some, chat.url)
    made = model.folder / "bench-cpu"
    found = json.loads((made / task.REPORT).read_text(encoding="utf-8"))
    assert manifest.read(made).settings["endpoint"] == chat.url
    assert [session["endpoint"]["kind"] for session in found["sessions"]] == ["chat", "tagger"]
    assert [[run["name"] for run in session["runs"]] for session in found["sessions"]] == [["in turn", "2 at a time"]] * 2
    assert found["sessions"][1]["runs"][0]["server"]["tensorrt_llm"]["requests"] == pytest.approx(60, abs=1)
    assert all(not run["failures"] for session in found["sessions"] for run in session["runs"])
    assert "Verdict: " in capsys.readouterr().out
    assert (made / task.PAGE).stat().st_size > 0


def test_dialogues_that_cannot_be_used_are_found_before_a_server_is_started(repository: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"user_last_message": "x", "pika_response": "y", "emotion": "angry", "celebrate": "no"}\n', encoding="utf-8")
    with pytest.raises(SettingError, match="angry"):
        task.bench(MODEL, settings.target("cpu"), None, bad, None)


@pytest.mark.skipif(CHAT_URL is None, reason="needs a real OpenAI-compatible server: PIKA_CHAT_URL=http://HOST:PORT/v1")
def test_a_real_server_streams_pieces_and_counts_tokens(some: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    command = ["measure", str(CHAT_URL), "--data", str(some), "--requests", "24", "--concurrency", "1", "8", "--json", str(out)]
    assert main(command) == 0
    alone, together = json.loads(out.read_text(encoding="utf-8"))["runs"]
    for run in (alone, together):
        assert run["failures"] == {}
        for answer in run["answers"]:
            assert 1 < len(answer["pieces_ms"]) <= answer["output_tokens"] <= 50
            assert 0 < answer["pieces_ms"][0] < answer["pieces_ms"][-1] <= answer["latency_ms"]
            assert answer["output_tokens"] == 50 or not answer["cut"]
    assert alone["metrics"]["ttft"]["p50"] < alone["metrics"]["latency"]["p50"]
    assert alone["metrics"]["tpot"]["p50"] > 0
