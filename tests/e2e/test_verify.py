"""`verify` against real servers: the engine that the pipeline made passes, engines of weights that were misread fail.

The faults are those that a wrong converter or loader makes: gate and up not exchanged, zero points with the wrong sign, the nibbles of a
word in another order. Each is put into an AWQ checkpoint, of which the CPU engine is built and served.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from build import engine, manifest, settings, verify, verify_checks, verify_network, verify_prompts, verify_reference
from build.awq import unpack
from build.ports import free_ports
from build.serve import Server
from build.verify_prompts import Prompts
from build.verify_report import Outcome, Report
from tests.e2e.conftest import MODEL, serving_changed
from tests.support.awq_checkpoints import Tensors, pack

pytestmark = pytest.mark.e2e

CPU = settings.target("cpu")


def swap_undone(tensors: Tensors) -> Tensors:
    """Up where gate should be, as if the halves had not been exchanged."""
    wrong = {name: np.roll(value, value.shape[-1] // 2, axis=-1) for name, value in tensors.items() if ".mlp.gate_up_proj." in name}
    return tensors | wrong


def zeros_negated(tensors: Tensors) -> Tensors:
    """(z - 8) * scale added instead of (8 - z) * scale."""
    return tensors | {
        name: pack((np.uint8(16) - unpack(value)) & np.uint8(15)) for name, value in tensors.items() if name.endswith(".qzeros")
    }


def nibbles_reordered(tensors: Tensors) -> Tensors:
    """The nibbles of a word read in the order of its columns."""

    def in_order(words: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        columns = unpack(words)
        return pack(columns.reshape(len(columns), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]].reshape(columns.shape))

    return tensors | {name: in_order(value) for name, value in tensors.items() if name.endswith((".qweight", ".qzeros"))}


def only_layer(number: int, damage: Callable[[Tensors], Tensors]) -> Callable[[Tensors], Tensors]:
    def damaged(tensors: Tensors) -> Tensors:
        of_layer = {name: value for name, value in damage(tensors).items() if name.startswith(f"model.layers.{number}.")}
        assert of_layer, "there is no such layer"
        return tensors | of_layer

    return damaged


def damaged(folder: Path, damage: Callable[[Tensors], Tensors]) -> Path:
    """The AWQ checkpoint with other weights, in `folder`."""
    shutil.copytree(MODEL.folder / "awq", folder, ignore=shutil.ignore_patterns(manifest.NAME))
    changed = {name: np.ascontiguousarray(value) for name, value in damage(load_file(folder / "model.safetensors")).items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def judged(url: str) -> Report:
    return verify.verify(MODEL, CPU, 0, url)


def outcomes(report: Report) -> dict[str, Outcome]:
    return {finding.name: finding.outcome for finding in report.findings}


def figures(report: Report, name: str) -> Mapping[str, float]:
    return next(finding.figures for finding in report.findings if finding.name == name)


@pytest.fixture(scope="module")
def prompts(repository: Path) -> Prompts:
    return verify_prompts.load(MODEL.task_file, MODEL.folder / "awq" / "tokenizer.json", CPU.tokens_per_block)


def test_the_engine_of_the_pipeline_passes(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main(["--url", server.url]) == 0
    shown = capsys.readouterr().out
    assert "50 of 50 tags as the reference" in shown
    assert shown.splitlines()[-1].startswith("model=pika-tiny target=cpu PASS")


def test_for_programs_it_is_json_and_nothing_else(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main(["--url", server.url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "pass"
    found = {finding["name"]: finding for finding in report["findings"]}
    assert {name: finding["outcome"] for name, finding in found.items()} == dict.fromkeys(
        ("contract", "logits", "kv reuse", "token ids"), "pass"
    )
    assert found["logits"]["figures"]["same_tags"] == 50
    assert found["logits"]["figures"]["max_difference_of_spread"] < 0.01


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(swap_undone, id="swap undone"),
        pytest.param(zeros_negated, id="zeros negated"),
        pytest.param(nibbles_reordered, id="nibbles reordered"),
        pytest.param(only_layer(1, swap_undone), id="swap undone in the layer where it shows least"),
    ],
)
def test_an_engine_of_misread_weights_fails(repository: Path, tmp_path: Path, damage: Callable[[Tensors], Tensors]) -> None:
    awq = damaged(tmp_path / "awq", damage)

    def rebuild(copy: Path) -> None:
        built = copy / "tensorrt_llm" / "1" / "engine"
        shutil.rmtree(built)
        engine.run_builder(awq, built, CPU.intra_op_threads, tmp_path / "builder.log")

    with serving_changed(repository, tmp_path, rebuild) as server:
        report = judged(server.url)
    assert report.exit_status == 1
    assert [name for name, outcome in outcomes(report).items() if outcome is Outcome.FAIL] == ["logits"]
    assert figures(report, "logits")["max_difference_of_spread"] > 0.2
    assert report.text().splitlines()[-1].startswith("model=pika-tiny target=cpu FAIL: logits; docs/verify.md says what to try")


@pytest.mark.parametrize("damage", [swap_undone, zeros_negated, nibbles_reordered])
def test_a_fault_in_any_one_layer_is_far_beyond_the_limit(prompts: Prompts, tmp_path: Path, damage: Callable[[Tensors], Tensors]) -> None:
    honest = verify_reference.find_or_make(MODEL, prompts)
    n_layers = json.loads((MODEL.folder / "awq" / "config.json").read_text())["num_hidden_layers"]
    off = []
    for number in range(n_layers):
        awq = damaged(tmp_path / str(number), only_layer(number, damage))
        found = verify_network.last_logits(awq, prompts.prompt.prefix_ids, prompts.turns, prompts.codes.token_ids)
        off.append(np.abs(found - honest.logits).max() / honest.spread)
    assert min(off) > 3 * verify_checks.MAX_DIFFERENCE


def test_an_engine_that_computes_the_prefix_anew_fails(repository: Path, tmp_path: Path) -> None:
    def forget(copy: Path) -> None:
        source = copy / "tensorrt_llm" / "1" / "generation.py"
        honest = "else sequence.shared_tokens(self._ids)"
        assert honest in source.read_text()
        source.write_text(source.read_text().replace(honest, "else 0"))

    with serving_changed(repository, tmp_path, forget) as server:
        report = judged(server.url)
    assert [name for name, outcome in outcomes(report).items() if outcome is Outcome.FAIL] == ["kv reuse"]
    assert outcomes(report)["logits"] is Outcome.PASS
    assert report.exit_status == 1
    assert figures(report, "kv reuse")["most_blocks"] == 0


def test_what_could_not_be_asked_leaves_no_verdict(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("build.verify_served.sys.executable", "/nowhere/python3")
    report = judged(server.url)
    assert outcomes(report)["token ids"] is Outcome.NOT_ASKED
    assert outcomes(report)["logits"] is Outcome.PASS
    assert report.exit_status == 2


def test_an_engine_without_a_tensor_of_the_contract_fails(repository: Path, tmp_path: Path) -> None:
    def hide(copy: Path) -> None:
        config = copy / "tensorrt_llm" / "config.pbtxt"
        line = '  { name: "acceptance_rate" data_type: TYPE_FP32 dims: [ 1 ] },\n'
        assert line in config.read_text()
        config.write_text(config.read_text().replace(line, ""))
        shutil.rmtree(copy / "ensemble")  # which wants it, and would not be loaded

    with serving_changed(repository, tmp_path, hide) as server:
        report = judged(server.url)
    found = outcomes(report)
    assert (found["contract"], found["logits"], found["kv reuse"]) == (Outcome.FAIL, Outcome.PASS, Outcome.PASS)
    assert report.exit_status == 1


def test_without_a_server_there_is_no_verdict(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main(["--url", f"127.0.0.1:{free_ports().grpc_port}"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "tensorrt_llm at 127.0.0.1:" in shown.err
    assert "cannot be asked" in shown.err
    assert "NO VERDICT" in shown.err


def test_the_stored_reference_is_what_the_checkpoint_means(prompts: Prompts) -> None:
    """If this machine quantizes to other bits than the one that stored it, most tags are the same all the same."""
    stored = verify_reference.load(verify_prompts.DATA / "pika-tiny.json")
    assert stored.prompts == prompts.sha256, "prompt or tokenizer was changed: store the reference again, docs/verify.md says how"
    awq = MODEL.folder / "awq"
    computed = verify_network.last_logits(awq, prompts.prompt.prefix_ids, prompts.turns, prompts.codes.token_ids)
    assert computed.shape == stored.logits.shape
    if stored.awq == manifest.read(awq).content_hash:
        assert np.abs(computed - stored.logits).max() < 0.01
    tags, stored_tags = prompts.read(computed), prompts.read(stored.logits)
    assert sum(a.emotion_name == b.emotion_name for a, b in zip(tags, stored_tags, strict=True)) >= 45
