"""`python -m build.bench` as people use it, against both kinds of endpoints."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build import ROOT, bench
from build.bench.__main__ import main
from build.bench.arguments import parse
from tests.bench.chat_server import ChatServer, Status, answer
from tests.bench.conftest import CHILD, PIKA
from tests.client.fake_server import FakeServer
from tests.support.fake_triton import free_port


@pytest.fixture
def tagger() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_one_harness_measures_both_kinds_and_their_files_are_compared(
    chat: ChatServer, tagger: FakeServer, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours, page = (tmp_path / name for name in ("theirs.json", "ours.json", "page.html"))
    for endpoint, out in ((chat.url, theirs), (f"grpc://{tagger.url}/codes", ours)):
        assert main(["measure", endpoint, "--data", str(data), "--requests", "5", "--concurrency", "1", "2", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Serving Benchmark Result") == 4
    assert "TPOT (ms):                                n/a (1 token)" in shown
    assert "Median TPOT (ms)" in shown
    for out in (theirs, ours):
        run = read(out)["runs"][0]
        assert (run["name"], run["emotion"]["right"], run["celebrate"]["right"], len(run["answers"])) == ("1 at a time", 3, 2, 5)
    assert main(["compare", str(theirs), str(ours), "--html", str(page), "--json", str(tmp_path / "verdict.json")]) == 0
    shown += capsys.readouterr().out
    assert "A is chat completions, phi-3, B is tagger, strategy codes; 5 dialogues" in shown
    assert "They give different answers to 0 of 5 dialogues" in shown
    assert read(tmp_path / "verdict.json")["verdict"][-1].startswith("The two were measured one after the other")
    assert main(["report", str(theirs), "--html", str(page)]) == 0
    assert "Serving Benchmark Result" in page.read_text(encoding="utf-8")
    everything = shown + page.read_text(encoding="utf-8") + theirs.read_text(encoding="utf-8") + ours.read_text(encoding="utf-8")
    assert CHILD not in everything
    assert PIKA not in everything


def test_two_urls_are_asked_in_turn(chat: ChatServer, tagger: FakeServer, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", chat.url, f"grpc://{tagger.url}", "--data", str(data), "--repeats", "2"]) == 0
    shown = capsys.readouterr().out
    assert "one after the other" not in shown
    assert "Verdict: " in shown
    assert len(chat.asked) == 10 + 2 * 5


def test_what_an_endpoint_is_told_comes_from_the_flags(chat: ChatServer, data: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("As we always did.", encoding="utf-8")
    command = ["measure", chat.url, "--data", str(data), "--requests", "1", "--model", "other", "--system", str(prompt)]
    assert main(command) == 0
    assert {(body["model"], body["messages"][0]["content"]) for body in chat.asked} == {("other", "As we always did.")}


def test_failed_requests_are_status_1_and_are_written(chat: ChatServer, data: Path, tmp_path: Path) -> None:
    chat.reply = lambda body: [Status(429)] if str(body).endswith("2'}]}") or f"{CHILD} 2" in str(body) else answer()
    out = tmp_path / "out.json"
    assert main(["measure", chat.url, "--data", str(data), "--requests", "5", "--json", str(out)]) == 1
    assert read(out)["runs"][0]["failures"] == {"busy": 1}
    assert main(["compare", chat.url, chat.url, "--data", str(data)]) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["measure", "ftp://x"], "begins with grpc://"),
        (["measure", "grpc://localhost:1/letters"], "names the strategy 'letters'"),
        (["measure", f"http://127.0.0.1:{free_port()}/v1"], "does not answer"),
        (["compare", "http://x/v1", "run.json"], "give two urls, or two files"),
        (["compare", "a.json", "b.json"], "a.json cannot be read"),
        (["measure", "http://x/v1", "--model", "m", "--system", "nothing.txt"], "--system nothing.txt cannot be read"),
        (["measure", "http://x/v1", "--model", "m", "--json", "nowhere/out.json"], "--json nowhere/out.json cannot be written"),
        (["compare", "http://x/v1", "http://y/v1", "--html", "."], "--html . cannot be written"),
    ],
)
def test_wrong_usage_is_status_2_with_a_remedy(
    command: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_a_bad_file_is_named_before_anything_is_asked(chat: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"pika_response": "x"}\n', encoding="utf-8")
    assert main(["measure", chat.url, "--data", str(bad)]) == 2
    assert "line 1: " in capsys.readouterr().err
    assert chat.asked == []


@pytest.mark.parametrize("flags", [("--requests", "0"), ("--rate", "0"), ("--rate", "nan"), ("--timeout-s", "inf"), ("--concurrency", "x")])
def test_a_number_that_cannot_work_is_wrong_usage(flags: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["measure", "http://x/v1", *flags])
    assert ended.value.code == 2


def test_every_command_in_the_documentation_can_be_typed() -> None:
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8") + (bench.__doc__ or "")
    commands = [line.split("#")[0] for line in text.splitlines() if line.lstrip().startswith("python -m build.bench ")]
    assert len(commands) >= 7
    assert {parse(shlex.split(command)[3:]).command for command in commands} == {"measure", "compare", "report"}
