"""What the tagger asks of the engine model, and what it makes of the answers."""

import weakref
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from build import ROOT
from tests.support.fake_backend import InferenceRequest, InferenceResponse, Tensor, loaded, scalar

LOGITS = Tensor("generation_logits", np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5))
REUSED = Tensor("kv_cache_reused_blocks", scalar(3))


@pytest.fixture
def module() -> Iterator[ModuleType]:
    with loaded(ROOT / "model_repository" / "tagger" / "1" / "engine.py") as found:
        yield found


@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize(("tensors", "reused_tokens"), [([LOGITS, REUSED], 96), ([LOGITS], 0)])
def test_a_pass_gives_logits_and_counts_whether_or_not_the_engine_tells_its_reuse(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, decoupled: bool, tensors: list[Tensor], reused_tokens: int
) -> None:
    monkeypatch.setattr(InferenceRequest, "answer", InferenceResponse(tensors), raising=False)
    passed: list[tuple[int, int]] = []
    engine = module.TritonEngine(decoupled, 32, lambda *tokens: passed.append(tokens))
    assert engine.next_logits([7, 8, 9]).tolist() == [0, 1, 2, 3, 4]
    assert passed == [(3, reused_tokens)]
    (request,) = InferenceRequest.sent
    assert request.outputs == ["output_ids", "sequence_length", "kv_cache_reused_blocks", "generation_logits"]
    assert {name: array.tolist() for name, array in request.arrays.items()} == {
        "input_ids": [[7, 8, 9]],
        "input_lengths": [[3]],
        "request_output_len": [[1]],
        "return_generation_logits": [[True]],
        "return_perf_metrics": [[True]],
    }


def test_a_series_of_responses_outlives_its_tag_but_not_for_ever(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class Series:
        def __iter__(self) -> "Series":
            return self

        def __next__(self) -> InferenceResponse:
            return InferenceResponse([LOGITS])

    made: list[weakref.ref[Series]] = []

    def answered(_request: InferenceRequest, decoupled: bool) -> Series:
        assert decoupled
        series = Series()
        made.append(weakref.ref(series))
        return series

    monkeypatch.setattr(InferenceRequest, "exec", answered)
    engine = module.TritonEngine(True, 32, lambda *_: None)
    for _ in range(20):
        engine.next_logits([7, 8, 9])
    assert [series() is not None for series in made] == [False] * 12 + [True] * 8
