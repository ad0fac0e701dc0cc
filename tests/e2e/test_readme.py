"""What the README shows is what happens."""

import re
import subprocess
import sys

import pytest

from build import ROOT
from build.serve import Server
from tests.e2e.conftest import doit

pytestmark = pytest.mark.e2e

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_list_of_tasks_is_current() -> None:
    assert f"```text\n{doit('list').stdout}```" in README


def test_the_example_runs(server: Server) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code.replace("localhost:8001", server.url)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    emotion, celebrate, json = done.stdout.strip().split(" ", 2)
    assert celebrate == "True"
    assert json == f'{{"emotion_name": "{emotion}", "celebrate": "yes"}}'
