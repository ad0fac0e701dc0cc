"""The whole pipeline, built once, and the real tritonserver on free ports."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build import ROOT, manifest, settings
from build.ports import free_ports
from build.serve import Server, running
from one_pass import Prompt, Task, TextCodec
from pika_tagger import TaggerClient

MODEL = settings.model("pika-tiny")
EVALUATION = ROOT / "tests" / "data" / "eval_dialogues.jsonl"

slow = pytest.mark.skipif("PIKA_SLOW_TESTS" not in os.environ, reason="only with PIKA_SLOW_TESTS=1")


def doit(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "doit", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@contextmanager
def serving_changed(repository: Path, folder: Path, change: Callable[[Path], None]) -> Iterator[Server]:
    """A server on a copy of the repository in `folder`, after `change` was called with the copy."""
    copy = folder / "repository"
    shutil.copytree(repository, copy, ignore=shutil.ignore_patterns(manifest.NAME))
    change(copy)
    manifest.seal(copy, "model_repository", {}, {}, [str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()])
    with running(copy, free_ports(), folder / "serve.log") as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="session")
def repository() -> Path:
    """What `doit` builds by default, whatever was tried here before; nothing is rebuilt if it is there already."""
    done = doit("strategy=", "decoupled=")
    assert done.returncode == 0, done.stdout + done.stderr
    return MODEL.folder / "triton-cpu"


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(repository, free_ports(), tmp_path_factory.mktemp("server") / "serve.log") as running_server:
        running_server.wait_until_ready()
        yield running_server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[TaggerClient]:
    with TaggerClient(server.url, timeout_s=10.0, budget_ms=math.inf, on_failure="raise") as tagger:
        yield tagger


@pytest.fixture(scope="session")
def evaluation() -> list[dict[str, object]]:
    """The hand-written dialogues with their labels."""
    return [json.loads(line) for line in EVALUATION.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def prompt(repository: Path) -> Prompt:
    """The prompt as the tagger makes it."""
    return Prompt(Task.load(MODEL.task_file), TextCodec.load(repository / "tagger" / "1" / "tokenizer.json"), tokens_per_block=32)
