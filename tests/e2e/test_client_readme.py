"""Every code block of the client's documentation does what it says, against the real server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from build import ROOT
from build.serve import Server

pytestmark = pytest.mark.e2e

README = ROOT / "client" / "README.md"
DOCUMENTS = {"README.md": README, "client.md": ROOT / "docs" / "client.md"}


def blocks(document: Path, language: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    return found


def test_every_block_is_of_a_kind_that_is_run_here() -> None:
    for document in DOCUMENTS.values():
        fences = re.findall(r"^```(\w*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= {"python", "sh"}
        assert set(fences[1::2]) <= {""}
    assert (len(blocks(README, "python")), len(blocks(README, "sh"))) == (4, 2)


def run(command: list[str], server: Server, folder: Path) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(ROOT / "client"), "PIKA_TAGGER_URL": server.url, "PATH": path, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=environment)
    complaints = [line for line in done.stderr.splitlines() if " % " not in line]  # what is left are lines about progress
    assert (done.returncode, complaints) == (0, [])
    return done


@pytest.mark.parametrize(
    ("document", "place", "lines"),
    [("README.md", 0, 2), ("README.md", 1, 1), ("README.md", 2, 1), ("README.md", 3, 2), ("client.md", 0, 0)],
)
def test_a_python_block_runs(server: Server, tmp_path: Path, document: str, place: int, lines: int) -> None:
    code = blocks(DOCUMENTS[document], "python")[place]
    patient = re.sub(r"(?<=budget_ms=)\d+", "60_000", code)  # this machine may be busy
    patient = patient.replace('TaggerClient("gpu-box:8001")', f'TaggerClient("{server.url}", budget_ms=60_000)')
    shown = run([sys.executable, "-c", patient.replace("gpu-box:8001", server.url)], server, tmp_path).stdout.splitlines()
    assert len(shown) == lines
    if lines:
        answer = json.loads(shown[-1])
        assert set(answer) == {"emotion_name", "celebrate"}
        assert answer["celebrate"] == ("no" if "mèo" in code else "yes")


def test_the_commands_run(server: Server, tmp_path: Path) -> None:
    install, commands = blocks(README, "sh")
    said = {"user_last_message": "2+2=4", "pika_response": "Chính xác! Cậu giỏi quá!"}
    (tmp_path / "dialogues.jsonl").write_text(json.dumps(said) + "\n", encoding="utf-8")
    labelled = [{**said, "emotion": ["proud", "thats_right"], "celebrate": "yes"}] * 3
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled), encoding="utf-8")
    runnable = commands.replace("gpu-box:8001", server.url).replace(" --max-ece 0.08", "")  # three rows say nothing about calibration
    shown = run(["bash", "-ec", f'pika-tag() {{ "{sys.executable}" -m pika_tagger.cli "$@"; }}\n{runnable}'], server, tmp_path).stdout
    assert "celebrate: yes" in shown
    assert "answers: a tag in" in shown
    assert json.loads((tmp_path / "tags.jsonl").read_text())["celebrate"] == "yes"
    assert json.loads((tmp_path / "report.json").read_text())["figures"]["celebrate"]["right"] == 3
    ways = [run["name"] for run in json.loads((tmp_path / "bench.json").read_text())["runs"]]
    assert ways == ["1 at a time", "4 at a time", "20/s", "cold prefix"]
    assert install == "pip install ./client\n"


def test_the_installed_package_is_imported_from_where_it_was_put(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    copy = tmp_path / "client"
    subprocess.run(["cp", "-r", str(ROOT / "client"), str(copy)], check=True)  # building leaves files beside the source
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(copy)], check=True, timeout=120)
    script = "import pika_tagger; print(pika_tagger.__file__, pika_tagger.__version__)"
    shown = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith(str(tmp_path / "site"))
    assert (tmp_path / "site" / "pika_tagger" / "py.typed").exists()
