"""The page for prompt work over the real server: what it answers, whom it answers, and what it leaves on the disk."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build import ROOT
from build.playground.columns import Columns
from build.playground.web import PAGE, SERVED
from build.serve import Server
from build.verify_engine import connected
from one_pass import STRATEGIES, Dialogue, Prompt
from pika_tagger import TaggerClient
from tests.support.playground_page import Playground, playground
from tests.support.task_files import changed

pytestmark = pytest.mark.e2e

TEXTS = {"user_last_message": "Dạ, thủ đô là Hà Nội ạ!", "pika_response": "Chính xác! Con thông minh lắm!"}
OWN = "model_repository/tagger/prompts/pika_mood.toml"
SURE = "threshold = 0.999999"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("prompts")
    return {
        "sure": changed(folder, "sure.toml", "threshold = 0.55", SURE),
        "edited": changed(folder, "edited.toml", "Answer with one letter", "One letter"),
        "broken": changed(folder, "broken.toml", 'code = "h"', 'code = "hh"'),
    }


@pytest.fixture(scope="module")
def page(server: Server, prompts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with playground(server, tmp_path_factory.mktemp("playground"), *prompts.values()) as started:
        yield started


def ask(page: Playground, prompt: str, strategy: str = "codes", **more: Any) -> Any:
    answer = page.send("POST", "/tag", {**TEXTS, "prompt": prompt, "strategy": strategy, **more})
    assert answer.status == 200, answer.body
    return answer.content


def test_the_served_column_is_the_tag_that_robots_get(page: Playground, client: TaggerClient) -> None:
    for strategy in STRATEGIES:
        found, tag = ask(page, SERVED, strategy), client.tag(**TEXTS, strategy=strategy)
        assert (found["emotion_name"], found["celebrate"]) == (tag.emotion_name, "yes")
        assert found["emotion_scores"] == pytest.approx(dict(tag.emotion_scores), abs=1e-3)
        assert found["latency_ms"] > 0
        assert found["remark"] == ""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_prompt_as_a_file_gives_the_same_answer(page: Playground, strategy: str) -> None:
    served, tried = ask(page, SERVED, strategy), ask(page, OWN, strategy)
    assert tried["emotion_scores"] == pytest.approx(served["emotion_scores"], abs=1e-3)
    assert tried["celebrate_score"] == pytest.approx(served["celebrate_score"], abs=1e-3)
    assert [served[part] for part in ("prefix", "turn", "text")] == [tried[part] for part in ("prefix", "turn", "text")]


def test_another_prompt_file_is_another_answer_of_the_same_engine(page: Playground, prompts: dict[str, Path]) -> None:
    served, sure, edited = (ask(page, name) for name in (SERVED, str(prompts["sure"]), str(prompts["edited"])))
    assert sure["emotion_scores"] == pytest.approx(served["emotion_scores"], abs=1e-3)
    assert (served["celebrate"], sure["celebrate"], sure["threshold"]) == ("yes", "no", 0.999999)
    assert edited["emotion_scores"] != pytest.approx(served["emotion_scores"], abs=1e-6)
    assert edited["turn"] == served["turn"]
    assert edited["prefix"] != served["prefix"]


def test_a_prompt_file_is_read_anew_each_time(page: Playground, prompts: dict[str, Path]) -> None:
    text = prompts["sure"].read_text(encoding="utf-8")
    prompts["sure"].write_text(text.replace(SURE, "threshold = 0.5"), encoding="utf-8")
    assert ask(page, str(prompts["sure"]))["celebrate"] == "yes"
    prompts["sure"].write_text(text, encoding="utf-8")
    assert ask(page, str(prompts["sure"]))["celebrate"] == "no"


def test_tokens_and_text_are_those_of_the_prompt(page: Playground, prompt: Prompt) -> None:
    found = ask(page, SERVED, pika_last_message="Thủ đô là gì?")
    ids = prompt.encode(Dialogue(**TEXTS, pika_last_message="Thủ đô là gì?"))
    assert [token["id"] for token in found["prefix"] + found["turn"]] == ids
    assert len(found["prefix"]) == 32 * found["prefix_blocks"]
    assert found["turn"][-1] == {"id": ids[-1], "spelling": "<|assistant|>", "is_marker": True}
    assert found["text"].endswith(
        "<|user|>Before:thu do la gi ?\nChild:da thu do la ha noi a\nPika:chinh xac . con thong minh lam<|end|><|assistant|>"
    )
    assert prompt.codec.encode_template(found["text"]) == ids


def test_a_prompt_that_does_not_work_is_explained(page: Playground, prompts: dict[str, Path]) -> None:
    answer = page.send("POST", "/tag", {**TEXTS, "prompt": str(prompts["broken"]), "strategy": "codes"})
    assert answer.status == 400
    assert "'hh'; a code is one letter" in answer.content["error"]


@pytest.mark.parametrize(("old", "new"), [("Answer with one letter", "One letter"), ("threshold = 0.55", SURE)])
def test_a_server_with_another_prompt_is_noticed(
    server: Server, client: TaggerClient, repository: Path, tmp_path: Path, old: str, new: str
) -> None:
    folder = tmp_path / "tagger" / "1"
    shutil.copytree(repository / "tagger" / "1", folder)
    changed(folder, "task.toml", old, new)
    with connected(server.url) as engine:
        columns = Columns(client, engine, tmp_path, 32)
        assert "start it again" in columns.served(Dialogue(**TEXTS), "codes").remark


def test_marked_lines_are_what_eval_takes(page: Playground, server: Server, tmp_path: Path) -> None:
    first = {**TEXTS, "emotion": ["sad"], "celebrate": "no"}
    second = {**TEXTS, "pika_last_message": "Thủ đô là gì?", "emotion": ["proud", "thats_right"], "celebrate": "yes"}
    assert [page.send("POST", "/save", row).content["lines"] for row in (first, second)] == [1, 2]
    again = page.send("POST", "/save", {**first, "emotion": ["thats_right"], "celebrate": "yes"})
    assert again.content == {"lines": 2}
    command = ["eval", str(page.saved_to), "--url", server.url, "--json", str(tmp_path / "report.json")]
    done = subprocess.run(
        [sys.executable, "-m", "pika_tagger.cli", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["figures"]["celebrate"]["right"] == 2
    page.saved_to.unlink()


@pytest.mark.parametrize("path", ["/tag", "/save"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": None},
    ],
)
def test_other_pages_cannot_ask_or_save(page: Playground, path: str, headers: dict[str, str | None]) -> None:
    row = {**TEXTS, "prompt": SERVED, "strategy": "codes", "emotion": ["sad"], "celebrate": "no"}
    answer = page.send("POST", path, row, **headers)
    assert answer.status in (400, 403, 415)
    assert b"emotion_scores" not in answer.body
    assert not page.saved_to.exists()


def test_a_name_that_is_made_to_point_here_reads_nothing(page: Playground) -> None:
    for path in ("/", "/setup", "/page/playground.js"):
        for host in ("evil.example", f"evil.example:{page.port}", f"127.0.0.1.evil.example:{page.port}"):
            assert page.send("GET", path, Host=host).status == 403
        assert page.send("GET", path, Host=f"localhost:{page.port}").status == 200


def test_a_preflight_from_elsewhere_is_not_allowed(page: Playground) -> None:
    answer = page.send("OPTIONS", "/save", Origin="http://evil.example", Access_Control_Request_Method="POST")
    assert answer.status == 403
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_every_answer_forbids_frames_foreign_code_and_copies(page: Playground) -> None:
    for method, path in (("GET", "/"), ("GET", "/page/playground.js"), ("GET", "/nothing"), ("POST", "/save")):
        headers = page.send(method, path).headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for path in PAGE.iterdir():
        assert re.findall(r"(?:https?:)?//[a-z]|url\(|@import|innerHTML", path.read_text(encoding="utf-8")) == []


def test_only_this_machine_is_listened_to(page: Playground) -> None:
    lines = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    listening = [fields[1] for line in lines if (fields := line.split())[3] == "0A" and fields[1].endswith(f":{page.port:04X}")]
    assert listening == [f"0100007F:{page.port:04X}"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"secret words", "not JSON"),
        (["secret words"], "not a JSON object"),
        ({"user_last_message": "secret words"}, "pika_response is missing"),
        ({**TEXTS, "emotion": ["secret words"], "celebrate": "no"}, "emotion is no list of labels"),
        ({**TEXTS, "emotion": [], "celebrate": "no"}, "emotion is no list of labels"),
        ({**TEXTS, "emotion": ["sad"], "celebrate": "secret words"}, 'neither "yes" nor "no"'),
    ],
)
def test_what_cannot_be_saved_is_named_and_not_repeated(page: Playground, content: Any, said: str) -> None:
    answer = page.send("POST", "/save", content)
    assert answer.status == 400
    assert said in answer.content["error"]
    assert b"secret" not in answer.body
    assert not page.saved_to.exists()


def test_too_much_is_not_read(page: Playground) -> None:
    assert page.send("POST", "/save", b"[" + b" " * (1 << 17) + b"]").status == 413


def test_nothing_that_was_said_is_in_a_log(page: Playground, server: Server) -> None:
    ask(page, SERVED, user_last_message="xylophone")
    page.send("POST", "/tag", {"pika_response": "xylophone", "user_last_message": 7})
    page.send("POST", "/tag", {"pika_response": "xylophone " * 500, "user_last_message": "", "prompt": SERVED, "strategy": "codes"})
    page.send("POST", "/xylophone", {"pika_response": "xylophone"})
    assert server.log is not None
    assert "xylophone" not in page.log.read_text() + server.log.read_text()


def test_it_says_what_is_missing(tmp_path: Path, server: Server) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "build.playground", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
            capture_output=True,
            text=True,
            check=False,
        )

    nobody = run("--grpc-port", "9")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "doit serve" in nobody.stderr
    taken = run("--grpc-port", str(server.ports.grpc_port), "--port", str(server.ports.http_port))
    assert (taken.returncode, taken.stdout) == (1, "")
    assert "playground_port=NUMBER" in taken.stderr
    nowhere = run("--prompt", str(tmp_path / "none.toml"))
    assert nowhere.returncode == 1
    assert "none.toml is not a file" in nowhere.stderr
