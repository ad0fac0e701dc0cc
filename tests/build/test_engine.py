"""The model builder is called with the flags that were measured, and its failure is told with the end of its log."""

import json
import shlex
import sys
from pathlib import Path

import onnx
import pytest

from build import engine, manifest
from build.errors import EngineError, ManifestError
from build.settings import Model
from tests.support import pruned_graph
from tests.support.checkout import Checkout

CONFIG = {"model": {"decoder": {"session_options": {"log_id": "x"}}, "vocab_size": 64}, "search": {"max_length": 512}}
BUILD = """
import json, os, sys
from pathlib import Path
out = Path(sys.argv[1])
assert list(out.iterdir()) == []
(out / "genai_config.json").write_text(sys.argv[2])
(out / "model.onnx").write_bytes(Path(sys.argv[3]).read_bytes())
(out / "environment.json").write_text(json.dumps(dict(os.environ)))
print("built")
"""
FAIL = "import sys; print(*(f'line {i}' for i in range(100)), sep='\\n'); sys.stderr.write('out of luck'); sys.exit(7)"


@pytest.fixture
def graph(tmp_path: Path) -> str:
    onnx.save(pruned_graph.model(), tmp_path / "graph.onnx")
    return str(tmp_path / "graph.onnx")


def use_builder(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> None:
    def command(model: Model, out: Path, cache: Path) -> list[str]:
        return [sys.executable, "-c", script, str(out), *arguments]

    monkeypatch.setattr(engine, "command", command)


def test_the_command_line_has_exactly_the_flags_that_were_measured(place: Checkout) -> None:
    assert engine.command(place.model.folder / "awq", Path("/out"), Path("/cache")) == [
        sys.executable,
        "-m",
        "onnxruntime_genai.models.builder",
        "-i",
        str(place.model.folder / "awq"),
        "-o",
        "/out",
        "-c",
        "/cache",
        "-p",
        "int4",
        "-e",
        "cpu",
        "--extra_options",
        "int4_accuracy_level=1",
        "int4_nodes_to_exclude=/lm_head/MatMul",
        "prune_lm_head=true",
    ]


def test_the_plan_is_one_line_that_a_shell_reads_back_as_the_command(place: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp/a folder")
    line = engine.plan(place.model, place.target)
    assert "\n" not in line
    expected = engine.command(place.model.folder / "awq", place.model.folder / "engine-cpu", Path("/tmp/a folder/model-builder-cache"))
    assert shlex.split(line) == expected


def test_the_engine_is_what_the_builder_leaves_with_the_threads_of_the_target(
    place: Checkout, graph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    awq = place.finished("awq", {"config.json": "{}"})
    use_builder(monkeypatch, BUILD, json.dumps(CONFIG), graph)
    engine.build_engine(place.model, place.target)
    made = manifest.verify_contents(place.model.folder / "engine-cpu")
    assert (made.stage, made.inputs) == ("build_engine", {"awq": manifest.read(awq).content_hash})
    assert made.settings["intra_op_threads"] == 3
    assert made.tools.keys() == set(engine.TOOLS)
    built = onnx.load(place.model.folder / "engine-cpu" / "model.onnx").graph.node
    assert [node.op_type for node in built].index("Gather") < [node.op_type for node in built].index("MatMul")  # see last_token
    config = json.loads((place.model.folder / "engine-cpu" / "genai_config.json").read_text())
    assert config["model"]["decoder"]["session_options"] == {"log_id": "x", "intra_op_num_threads": 3}
    assert (config["search"], config["model"]["vocab_size"]) == (CONFIG["search"], 64)
    assert (place.model.folder / "build_engine.log").read_text() == "built\n"


def test_the_builder_looks_nothing_up_and_reports_nothing(place: Checkout, graph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place.finished("awq", {"config.json": "{}"})
    use_builder(monkeypatch, BUILD, json.dumps(CONFIG), graph)
    engine.build_engine(place.model, place.target)
    environment = json.loads((place.model.folder / "engine-cpu" / "environment.json").read_text())
    assert (environment["HF_HUB_OFFLINE"], environment["ORT_DISABLE_TELEMETRY"]) == ("1", "1")


def test_a_failure_is_told_with_status_log_and_command(place: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    place.finished("awq", {"config.json": "{}"})
    use_builder(monkeypatch, FAIL)
    with pytest.raises(EngineError) as caught:
        engine.build_engine(place.model, place.target)
    log = place.model.folder / "build_engine.log"
    first, *tail = str(caught.value).splitlines()
    assert first == f"the model builder ended with status 7. The end of {log}:"
    assert {"line 99", "line 90"} <= set(tail)
    assert "line 50" not in tail  # the whole of it is in the file
    assert "out of luck" in str(caught.value)
    assert tail[-1].startswith(f"Command: {sys.executable} -c ")
    assert {"line 0", "line 99"} <= set(log.read_text().splitlines())
    assert place.left() == ["awq", "build_engine.log"]


def test_a_failure_keeps_the_older_engine(place: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    place.finished("awq", {"config.json": "{}"})
    old = place.finished("engine-cpu", {"genai_config.json": "{}"})
    use_builder(monkeypatch, FAIL)
    with pytest.raises(EngineError):
        engine.build_engine(place.model, place.target)
    assert manifest.verify_contents(old).files.keys() == {"genai_config.json"}


def test_without_a_checkpoint_nothing_is_built(place: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    use_builder(monkeypatch, "raise SystemExit('must not run')")
    with pytest.raises(ManifestError, match=r"awq has no manifest\.json"):
        engine.build_engine(place.model, place.target)
    assert place.left() == []
