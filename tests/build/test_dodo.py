"""`doit` as people use it: a list of one-line explanations, dry runs that do nothing, and messages without tracebacks."""

import ast
import json
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit import doit_cmd
from doit.exceptions import TaskFailed
from doit.tools import config_changed

from build import ROOT, engine, gpu_specs, plan, roofline, settings, trtllm_build
from build.errors import PortInUseError, SourceError
from pika_tagger import TaggerError

DESIGNED = {
    *("doctor", "download", "quantize", "convert", "build_engine", "model_repository", "serve", "tag", "evaluate", "bench"),
    *("train", "finetune", "verify", "plan", "demo", "certificates"),
}
THERE_SO_FAR = DESIGNED - {"tag"}
MAX_DOC = 90


def task_docs() -> dict[str, str | None]:
    functions = [node for node in ast.parse((ROOT / "dodo.py").read_text()).body if isinstance(node, ast.FunctionDef)]
    return {f.name.removeprefix("task_"): ast.get_docstring(f) for f in functions if f.name.startswith("task_")}


def doit(tmp_path: Path, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run doit with a memory of its own, so that the checkout's is not touched."""
    line = [sys.executable, "-m", "doit", command, "--db-file", str(tmp_path / "doit.db"), *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def variables() -> Iterator[None]:
    """Settings may be given without a command line."""
    doit_cmd.reset_vars()
    yield
    doit_cmd.reset_vars()


def test_the_tasks_of_the_design_are_there() -> None:
    assert task_docs().keys() >= THERE_SO_FAR


@pytest.mark.parametrize("name", sorted(task_docs().keys() & DESIGNED))
def test_every_task_explains_itself_in_one_short_lower_case_line(name: str) -> None:
    doc = task_docs()[name]
    assert doc is not None
    assert "\n" not in doc
    assert len(doc) <= MAX_DOC
    assert doc[0].islower()
    assert not doc.endswith(".")


def test_list_shows_every_task_with_its_explanation(tmp_path: Path) -> None:
    done = doit(tmp_path, "list")
    assert (done.returncode, done.stderr) == (0, "")
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line)
    assert {name: doc.strip() for name, doc in listed.items()} == task_docs()


def test_a_dry_run_prints_the_command_alone(tmp_path: Path) -> None:
    done = doit(tmp_path, "run", "dry_run=yes", "build_engine")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert shlex.split(line) == shlex.split(engine.plan(settings.model("pika-tiny"), settings.target("cpu")))


def test_a_dry_run_is_about_the_model_that_was_named(tmp_path: Path) -> None:
    done = doit(tmp_path, "run", "dry_run=yes", "model=phi-3-mini", "build_engine")
    assert str(settings.CHECKPOINTS / "phi-3-mini" / "awq") in shlex.split(done.stdout)
    assert not (settings.CHECKPOINTS / "phi-3-mini" / "engine-cpu").exists()


@pytest.mark.parametrize("target", ["l4", "rtx3090", "a10g"])
@pytest.mark.parametrize("model", ["pika-tiny", "phi-3-mini"])
def test_the_command_for_a_gpu_is_one_line_alone_on_stdout(tmp_path: Path, model: str, target: str) -> None:
    done = doit(tmp_path, "run", f"model={model}", f"target={target}", "gpu=1", "dry_run=yes", "build_engine")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == trtllm_build.plan(settings.model(model), settings.target(target), 1) + "\n"
    assert "trtllm-build" in shlex.split(done.stdout)


@pytest.mark.usefixtures("variables")
def test_a_gpu_engine_depends_on_the_converted_checkpoint_and_on_its_flags() -> None:
    doit_cmd.set_var("target", "l4")
    task = runpy.run_path(str(ROOT / "dodo.py"))["task_build_engine"]()
    folder = settings.model("pika-tiny").folder
    assert str(folder / "trtllm" / "manifest.json") in task["file_dep"]
    assert str(folder / "awq" / "manifest.json") not in task["file_dep"]
    assert task["targets"] == [str(folder / "engine-l4" / "manifest.json")]
    (changed,) = [check for check in task["uptodate"] if isinstance(check, config_changed)]
    assert changed.config == trtllm_build.recorded_settings(settings.model("pika-tiny"), settings.target("l4"))
    assert (trtllm_build.is_current, [settings.model("pika-tiny"), settings.target("l4"), 0]) in task["uptodate"]


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("name", ["serve", "demo", "evaluate", "bench"])
def test_a_gpu_target_is_not_served_by_a_server_that_cannot(name: str) -> None:
    doit_cmd.set_var("target", "l4")
    task = runpy.run_path(str(ROOT / "dodo.py"))[f"task_{name}"]()
    assert "task_dep" not in task  # nothing is built first
    (action,) = task["actions"]
    failed = action()
    assert isinstance(failed, TaskFailed)
    assert failed.get_msg().strip().startswith("SettingError: target=l4 is served in nvcr.io/nvidia/tritonserver")
    assert "docker compose -f docker/compose.yaml up" in failed.get_msg()


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("name", ["demo", "evaluate", "bench"])
def test_what_would_start_a_server_without_vllm_refuses_its_target_and_serve_does_not(name: str) -> None:
    doit_cmd.set_var("target", "vllm")
    tasks = runpy.run_path(str(ROOT / "dodo.py"))
    refused = tasks[f"task_{name}"]()
    assert "task_dep" not in refused
    failed = refused["actions"][0]()
    assert isinstance(failed, TaskFailed)
    assert "`doit target=vllm serve` alone" in failed.get_msg()
    assert tasks["task_serve"]()["task_dep"] == ["model_repository"]


@pytest.mark.usefixtures("variables")
def test_the_converter_runs_again_for_another_layout() -> None:
    def settings_of(layout: str) -> object:
        doit_cmd.set_var("layout", layout)
        return runpy.run_path(str(ROOT / "dodo.py"))["task_convert"]()["uptodate"][0].config

    assert settings_of("gptq") != settings_of("awq")


@pytest.mark.parametrize("task", sorted(THERE_SO_FAR))
def test_a_dry_run_says_one_line_and_makes_nothing(task: str, tmp_path: Path) -> None:
    folder = settings.model("phi-3-mini").folder
    before = sorted(folder.rglob("*"))
    done = doit(tmp_path, "run", "dry_run=yes", "model=phi-3-mini", task)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    # No other is trained from nothing, the plan is on paper, and certificates are of no model.
    assert {"train": "pika-tiny", "plan": "build.plan", "certificates": "checkpoints/certificates"}.get(task, "phi-3-mini") in done.stdout
    assert sorted(folder.rglob("*")) == before


def test_the_doctor_is_asked_about_what_was_given_and_answers_programs_with_json_alone(tmp_path: Path) -> None:
    done = doit(tmp_path, "run", "model=phi-3-mini", "target=rtx3090", "gpu=2", "grpc_port=9123", "json=yes", "doctor")
    report = json.loads(done.stdout)
    assert (report["model"], report["target"]) == ("phi-3-mini", "rtx3090")
    assert report["works"] == (done.returncode == 0)
    assert "9123" in next(check["found"] for check in report["checks"] if check["name"] == "grpc_port")
    assert "--gpu=2" in doit(tmp_path, "run", "gpu=2", "dry_run=yes", "doctor").stdout


def test_the_playground_is_given_what_was_asked_for(tmp_path: Path) -> None:
    given = ("playground_port=8011", "prompt=own.toml", "save=own.jsonl", "grpc_port=9001")
    said = doit(tmp_path, "run", *given, "model=phi-3-mini", "target=l4", "dry_run=yes", "playground").stdout
    asked = "--model phi-3-mini --target l4 --grpc-port 9001 --port 8011 --prompt own.toml --save own.jsonl"
    assert said == f"{sys.executable} -m build.playground {asked}\n"


def test_the_plan_is_printed(tmp_path: Path) -> None:
    done = doit(tmp_path, "run", "plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert plan.table(gpu_specs.KNOWN, roofline.Workload()) in done.stdout


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize(("said", "decoupled"), [(None, False), ("no", False), ("yes", True)])
def test_decoupled_reaches_the_assembly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str | None, decoupled: bool) -> None:
    monkeypatch.setattr(settings, "CHECKPOINTS", tmp_path)  # where nothing is remembered
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr("build.repository.assemble", lambda *arguments: calls.append(arguments))
    if said is not None:
        doit_cmd.set_var("decoupled", said)
    (action,) = runpy.run_path(str(ROOT / "dodo.py"))["task_model_repository"]()["actions"]
    assert action() is None
    assert calls == [(settings.model("pika-tiny"), settings.target("cpu"), "codes", decoupled)]


@pytest.mark.usefixtures("variables")
def test_a_dry_run_is_not_remembered_as_a_run() -> None:
    def memory(dry_run: str) -> str:
        doit_cmd.set_var("dry_run", dry_run)
        return str(runpy.run_path(str(ROOT / "dodo.py"))["DOIT_CONFIG"]["dep_file"])

    assert memory("yes") != memory("no")


@pytest.mark.usefixtures("variables")
def test_stages_depend_on_manifests_and_never_on_weights_or_folders() -> None:
    dodo = runpy.run_path(str(ROOT / "dodo.py"))
    for name in ("quantize", "convert", "build_engine", "model_repository"):
        task = dodo[f"task_{name}"]()
        assert [Path(target).name for target in task["targets"]] == ["manifest.json"]
        made = [Path(path) for path in task["file_dep"] if settings.CHECKPOINTS in Path(path).parents]
        assert {path.name for path in made} == {"manifest.json"}
        assert all(Path(path).suffix != "" for path in task["file_dep"])


@pytest.mark.usefixtures("variables")
def test_the_embedded_model_is_never_cleaned_away() -> None:
    dodo = runpy.run_path(str(ROOT / "dodo.py"))
    assert dodo["task_download"]()["clean"] == []
    assert dodo["task_quantize"]()["clean"] != []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model=pika", "model=pika is not known; presets.toml has pika-tiny, phi-3-mini"),
        ("target=tpu", "target=tpu is not known; presets.toml has"),
        ("gpu=all", "gpu=all is not the number of a GPU"),
        ("layout=marlin", "layout=marlin is not known: give one of awq, gptq"),
        ("dry_run=perhaps", "dry_run=perhaps is neither yes nor no"),
        ("json=perhaps", "json=perhaps is neither yes nor no"),
        ("grpc_port=http", "grpc_port=http is not a port; give a number from 1 to 65535"),
        ("address=0.0.0.0", "address=0.0.0.0 can be reached from other machines"),
        ("insecure=perhaps", "insecure=perhaps is neither yes nor no"),
        ("tls_certificate=server.pem", "tls_certificate= and tls_key= belong together"),
        ("tls_key=key.pem", "tls_certificate= and tls_key= belong together"),
        ("tls_clients=authority.pem", "tls_clients= says whose clients may come"),
        ("admin_key_file=absent", "admin_key_file=absent cannot be read"),
        ("grpc_port=8000", "http_port=8000 is given twice; the three ports must differ"),
    ],
)
def test_a_wrong_setting_is_one_line_on_stderr(tmp_path: Path, setting: str, message: str) -> None:
    done = doit(tmp_path, "run", setting, "dry_run=yes" if "dry_run" not in setting else "model=pika-tiny", "build_engine")
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")


def test_an_unknown_task_is_refused_without_a_traceback(tmp_path: Path) -> None:
    done = doit(tmp_path, "run", "frobnicate")
    assert done.returncode != 0
    assert "frobnicate" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("error", [PortInUseError("port 1 is taken"), SourceError("config.json is missing"), TaggerError("too late")])
def test_an_error_raised_on_purpose_becomes_a_message(error: Exception) -> None:
    def stage() -> None:
        raise error

    failed = runpy.run_path(str(ROOT / "dodo.py"))["guarded"](stage)()
    assert isinstance(failed, TaskFailed)
    assert failed.get_msg().strip() == f"{type(error).__name__}: {error}"


@pytest.mark.usefixtures("variables")
def test_an_error_that_nobody_expected_keeps_its_traceback() -> None:
    def stage() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runpy.run_path(str(ROOT / "dodo.py"))["guarded"](stage)()
