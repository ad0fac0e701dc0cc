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
    patient = code.replace('"localhost:8001"', f'"{server.url}", budget_ms=60_000')
    done = subprocess.run([sys.executable, "-c", patient], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    emotion, celebrate, json = done.stdout.strip().split(" ", 2)
    assert celebrate == "True"
    assert json == f'{{"emotion_name": "{emotion}", "celebrate": "yes"}}'
