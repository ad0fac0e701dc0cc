"""What the README shows is what happens."""

import json
import re
import subprocess
import sys

import pytest

from build import ROOT
from build.serve import Server
from one_pass import Task
from tests.e2e.conftest import MODEL, doit

pytestmark = pytest.mark.e2e

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = "\n".join([README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))])


def test_the_list_of_tasks_is_current() -> None:
    assert f"```text\n{doit('list').stdout}```" in README


def test_the_example_runs(server: Server) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    patient = code.replace('"localhost:8001"', f'"{server.url}", budget_ms=60_000')
    done = subprocess.run([sys.executable, "-c", patient], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    emotion, celebrate, line = done.stdout.strip().split(" ", 2)
    assert celebrate == "True"
    assert line == f'{{"emotion_name": "{emotion}", "celebrate": "yes"}}'


def curl(server: Server, place: str) -> list[dict[str, object]]:
    """The answers to all commands of the README and the docs that ask there, run by a shell as they are printed but for the port."""
    commands = re.findall(rf"^curl -s localhost:8000/v2/models/{place} .*?'$", PAGES, re.DOTALL | re.MULTILINE)
    assert commands
    answers = []
    for command in commands:
        there = command.replace("localhost:8000", f"127.0.0.1:{server.ports.http_port}")
        done = subprocess.run(["sh", "-c", there], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    return answers


def test_one_dialogue_by_curl_is_tagged(server: Server) -> None:
    n_labels = len(Task.load(MODEL.task_file).labels)
    for answer in curl(server, "tagger/generate"):
        assert (answer["emotion_name"], answer["celebrate"]) == ("thats_right", "yes")
        assert isinstance(answer["emotion_scores"], list)
        assert len(answer["emotion_scores"]) == n_labels
        assert isinstance(answer["celebrate_score"], float)


def test_a_batch_by_curl_is_answered_as_shown(server: Server) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    assert curl(server, "tagger/infer") == [json.loads(shown)]


def test_text_by_curl_is_continued(server: Server) -> None:
    answers = curl(server, "ensemble/generate")
    assert {answer["model_name"] for answer in answers} == {"ensemble"}
    assert all(str(answer["text_output"]).startswith("Hello, Pika!") for answer in answers)
