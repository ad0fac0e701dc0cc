"""The cut behind the last attention changes no logit, and leaves one position for what follows it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from build.errors import EngineError
from build.last_token import move_cut
from tests.support import pruned_graph

EMBEDDED = np.random.default_rng(1).normal(size=(1, 7, pruned_graph.HIDDEN_SIZE)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(pruned_graph.model(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def run(path: Path, embedded: npt.NDArray[np.float32], *wanted: str) -> list[npt.NDArray[np.float32]]:
    model = onnx.load(path)
    for name in wanted:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    results: list[npt.NDArray[np.float32]] = ReferenceEvaluator(model).run(["logits", *wanted], {"embedded": embedded})
    return results


@pytest.mark.parametrize("n_tokens", [1, 2, 7])
def test_the_logits_stay_what_they_were(path: Path, n_tokens: int) -> None:
    (before,) = run(path, EMBEDDED[:, :n_tokens])
    move_cut(path)
    (after,) = run(path, EMBEDDED[:, :n_tokens])
    assert after.shape == (1, 1, pruned_graph.VOCAB_SIZE)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_all_positions_are_attended_to_and_one_goes_on(path: Path) -> None:
    move_cut(path)
    _, attended, *others = run(path, EMBEDDED, "attended", "projected", "residual", "normed", "fed_forward", "final")
    assert attended.shape[1] == 7
    assert {each.shape for each in others} == {(1, 1, pruned_graph.HIDDEN_SIZE)}


@pytest.mark.parametrize("missing", ["Gather", "Unsqueeze", "GroupQueryAttention"])
def test_a_graph_of_another_form_is_refused_and_left(path: Path, missing: str) -> None:
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == missing)
    node.op_type, node.name = "Identity", "other"
    onnx.save(model, path)
    before = path.read_bytes()
    with pytest.raises(EngineError, match="another version of the model builder"):
        move_cut(path)
    assert path.read_bytes() == before


def test_a_cut_that_was_moved_is_not_moved_again(path: Path) -> None:
    move_cut(path)
    once = path.read_bytes()
    with pytest.raises(EngineError):
        move_cut(path)
    assert path.read_bytes() == once
