"""What the place says where the tagger is served: this environment for the CPU, and on a GPU target a container.

`docker` is a script that takes the options which we give and runs the command on this machine: the paths are the same there.
"""

import shutil
import sys
from pathlib import Path

import pytest

from build import ROOT, settings, verify_checks, verify_prompts, verify_served
from build.errors import EngineError, ServerError
from build.verify_prompts import Prompts
from build.verify_report import Outcome
from build.verify_served import look_inside

CPU, L4 = settings.target("cpu"), settings.target("l4")
TINY = settings.model("pika-tiny")
DOCKER = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support import trtllm_container
options, image, (tool, *arguments) = trtllm_container.parse_docker(sys.argv[1:])
seen = trtllm_container.mounts(options)
option, script, folder = arguments
writable = [trtllm_container.writable(__import__("pathlib").Path(path), seen) for path in (folder, os.environ["TAGGER"])]
if tool != "python3" or writable != [True, False]:
    sys.exit(f"called with {{sys.argv}}")
print("=== a banner of", image, "===", flush=True)
os.execv(sys.executable, [sys.executable, option, script, folder])
"""


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    """The version folder of the tagger, as `model_repository` lays it out."""
    folder = tmp_path / "tagger" / "1"
    shutil.copytree(ROOT / "model_repository" / "tagger" / "1", folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(TINY.task_file, folder / "task.toml")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TINY.folder / "hf" / name, folder / name)
    return folder


@pytest.fixture
def docker(tmp_path: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder on PATH that has docker in it, and NVIDIA's models in "the image"."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("TAGGER", str(tagger))
    models = tmp_path / "all_models"
    (models / "ensemble").mkdir(parents=True)
    (models / "ensemble" / "config.pbtxt").write_text('name: "ensemble"')
    monkeypatch.setattr(verify_served, "TEMPLATES", models)
    return tools


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return verify_prompts.load(TINY.task_file, TINY.folder / "hf" / "tokenizer.json", CPU.tokens_per_block)


def test_here_the_served_tagger_makes_the_same_prompts(tagger: Path, prompts: Prompts) -> None:
    inside = look_inside(tagger, verify_prompts.dialogues(), CPU, 0)
    assert inside.place == "this environment"
    assert inside.templates == {}
    assert verify_checks.token_ids(prompts.ids, inside).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("tokenizer_config.json", '"spoken"', '"written"'),
        ("task.toml", "Pika", "Pica"),
        ("one_pass/prompt.py", "return ids + self.assistant_ids", "return ids"),
    ],
)
def test_a_tokenizer_a_task_or_code_that_differs_fails(tagger: Path, prompts: Prompts, file: str, before: str, after: str) -> None:
    text = (tagger / file).read_text(encoding="utf-8")
    assert before in text
    (tagger / file).write_text(text.replace(before, after), encoding="utf-8")
    finding = verify_checks.token_ids(prompts.ids, look_inside(tagger, verify_prompts.dialogues(), CPU, 0))
    assert finding.outcome is Outcome.FAIL
    assert finding.figures["same_prompts"] < 50


def test_in_the_image_it_is_asked_through_docker(docker: Path, tagger: Path, prompts: Prompts) -> None:
    inside = look_inside(tagger, verify_prompts.dialogues(), L4, 0)
    assert inside.place.startswith(settings.container().image)
    assert inside.templates == {"ensemble": 'name: "ensemble"'}
    assert verify_checks.token_ids(prompts.ids, inside).outcome is Outcome.PASS


def test_what_fails_there_is_told_with_its_own_words(docker: Path, tagger: Path) -> None:
    (tagger / "tokenizer.json").write_text("{}")
    with pytest.raises(ServerError, match=r"was asked for its tokenizer and ended with status 1:\n(?s:.*)TaskError"):
        look_inside(tagger, verify_prompts.dialogues(), L4, 0)


def test_without_docker_both_ways_are_named(docker: Path, tagger: Path) -> None:
    (docker / "docker").unlink()
    with pytest.raises(EngineError, match=r"neither TensorRT-LLM nor docker"):
        look_inside(tagger, verify_prompts.dialogues(), L4, 0)


def test_nothing_is_left_behind(docker: Path, tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    before = sorted(tagger.rglob("*"))
    for target in (CPU, L4):
        look_inside(tagger, verify_prompts.dialogues(), target, 0)
    assert list(scratch.iterdir()) == []
    assert sorted(tagger.rglob("*")) == before
