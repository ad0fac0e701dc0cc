"""Lint, format and types are clean, and the tools really look into build/, a folder that many of them skip."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from build import ROOT

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
NOT_OURS = {"checkpoints", "__pycache__", "node_modules"}
UNFINISHED = ("TO" + "DO", "FIX" + "ME")
BIN = Path(sys.executable).parent


def run(tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([BIN / tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def own_files(folder: Path = ROOT) -> Iterator[Path]:
    """Files of the checkout, without outputs, caches and hidden folders."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif not path.name.startswith(".") and path.name not in NOT_OURS and path.suffix != ".egg-info":
            yield from own_files(path)


def sources(*folders: str) -> set[Path]:
    return {path for folder in folders for path in (ROOT / folder).rglob("*.py")}


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")])
def test_ruff_finds_nothing(arguments: tuple[str, ...]) -> None:
    done = run("ruff", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_looks_at_every_source_file() -> None:
    seen = set(map(Path, run("ruff", "check", "--show-files").stdout.split()))
    expected = {ROOT / "dodo.py", ROOT / "build" / "convert.py", *sources("build", "client/pika_tagger", "model_repository", "tests")}
    assert expected - seen == set()


def test_mypy_finds_nothing_in_every_source_file() -> None:
    places = [ROOT / name for name in CONFIG["mypy"]["files"]]
    files = {path for place in places for path in ([place] if place.is_file() else place.rglob("*.py"))}
    assert files >= {ROOT / "dodo.py", *sources("build", "client/pika_tagger", "tests")}
    done = run("mypy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(" source file")[0].split()[-1]) >= len(files)


def test_pytest_looks_into_folders_called_build() -> None:
    options = CONFIG["pytest"]["ini_options"]
    assert "norecursedirs" in options  # its default has build in it
    assert "build" not in options["norecursedirs"]


def test_git_does_not_ignore_build() -> None:
    lines = {line.strip().strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert not lines & {"build", "**/build", "build/*"}


def test_nothing_is_marked_as_unfinished() -> None:
    found = []
    for path in own_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # no text
        found += [f"{path.relative_to(ROOT)}: {word}" for word in UNFINISHED if word in text]
    assert found == []
