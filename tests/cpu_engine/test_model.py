"""The border with Triton: who is answered how and when, and with which status."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from build import ROOT
from generation import Generation
from tests.support.fake_backend import FINAL, InferenceResponse, Request, loaded, scalar
from tests.support.rule_engine import rule_engine

PATIENCE_S = 20.0
TAG: dict[str, Any] = {"request_output_len": scalar(1), "return_generation_logits": scalar(True, bool)}
Sent = Queue[tuple[InferenceResponse, int]]


class Loaded:
    """A model, and the requests that it is sent."""

    def __init__(self, model: Any, failing: set[int]) -> None:
        self.model, self.sent = model, Sent()
        self.failing = failing
        """Tokens at which the engine fails."""

    def execute(
        self, id_: str = "1", on_send: Callable[[InferenceResponse, int], None] | None = None, **arrays: Any
    ) -> tuple[Any, Request]:
        arrays = {"input_ids": scalar(3), "input_lengths": scalar(1), "request_output_len": scalar(3), **arrays}
        outputs = ["output_ids", "sequence_length", "generation_logits"]
        request = Request(arrays, outputs, id_, on_send or (lambda response, flags: self.sent.put((response, flags))))
        return self.model.execute([request]), request

    def begun(self) -> Generation:
        """The generation under way, once there is one."""
        give_up = time.monotonic() + PATIENCE_S
        while (found := self.model._scheduler._jobs[0].generation) is None:
            assert time.monotonic() < give_up
        generation: Generation = found
        return generation

    def next(self) -> tuple[InferenceResponse, int]:
        return self.sent.get(timeout=PATIENCE_S)


@pytest.fixture(params=[False, True], ids=["unary", "decoupled"])
def decoupled(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def under_test(decoupled: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loaded]:
    failing: set[int] = set()

    def compute(ids: list[int]) -> None:
        if failing.intersection(ids):
            raise RuntimeError("out of memory")

    interval = sys.getswitchinterval()
    with loaded(ROOT / "model_repository" / "tensorrt_llm" / "cpu" / "1" / "model.py") as module:
        monkeypatch.setattr(module, "CpuEngine", lambda folder: rule_engine(compute, max_tokens=10**9))
        parameters = {"tokens_per_block": 32, "generation_slots": 1, "max_queue_size": 1}
        config = {
            "parameters": {name: {"string_value": str(value)} for name, value in parameters.items()},
            "model_transaction_policy": {"decoupled": decoupled},
        }
        model = module.TritonPythonModel()
        model.initialize({"model_config": json.dumps(config), "model_repository": str(Path("repository")), "model_version": "1"})
        yield Loaded(model, failing)
        model.finalize()
    sys.setswitchinterval(interval)


def immediate(under_test: Loaded, returned: Any) -> InferenceResponse:
    """The response to a request that was answered before `execute` ended, returned or sent."""
    if returned is not None:
        assert under_test.sent.empty()
        (response,) = returned
        assert isinstance(response, InferenceResponse)
        return response
    response, flags = under_test.sent.get_nowait()
    assert flags == FINAL
    return response


def test_a_tag_is_answered_before_execute_ends(under_test: Loaded, decoupled: bool) -> None:
    returned, _ = under_test.execute(**TAG)
    assert (returned is None) == decoupled
    response = immediate(under_test, returned)
    assert response.arrays["output_ids"].tolist() == [[[3, 4]]]
    assert response.arrays["generation_logits"].shape == (1, 1, 1, 16)


def test_a_generation_is_answered_later_and_once(under_test: Loaded) -> None:
    under_test.execute()
    response, flags = under_test.next()
    assert flags == FINAL
    assert response.arrays["output_ids"].tolist() == [[[3, 4, 5, 6]]]
    assert under_test.sent.empty()


def test_a_tag_is_sent_and_not_returned_while_generations_wait_for_it(under_test: Loaded) -> None:
    """So that none of them steps before the answer is on its way."""
    under_test.execute(request_output_len=scalar(10**8), id_="long")
    generation = under_test.begun()
    seen: list[int] = []

    def on_send(response: InferenceResponse, flags: int) -> None:
        before = len(generation.tokens)
        time.sleep(0.2)  # a step takes microseconds here
        seen.append(len(generation.tokens) - before)

    returned, _ = under_test.execute(on_send=on_send, **TAG)
    assert returned is None
    assert seen == [0]
    under_test.execute(id_="long", stop=scalar(True, bool))


def test_streaming_is_a_matter_of_the_model(under_test: Loaded, decoupled: bool) -> None:
    returned, _ = under_test.execute(streaming=scalar(True, bool))
    if not decoupled:
        error = immediate(under_test, returned).error
        assert error is not None
        assert error.code == "INVALID_ARG"
        return
    pieces = [under_test.next() for _ in range(3)]
    assert [(piece.arrays["output_ids"].tolist(), flags) for piece, flags in pieces] == [([[[4]]], 0), ([[[5]]], 0), ([[[6]]], FINAL)]


def test_a_stop_request_ends_the_other_and_has_an_empty_response_itself(under_test: Loaded) -> None:
    under_test.execute(request_output_len=scalar(10**8), id_="a")
    under_test.begun()
    returned, _ = under_test.execute(id_="a", stop=scalar(True, bool), request_output_len=scalar(0), input_lengths=scalar(0))
    assert returned is None
    for_stop, for_other = under_test.next(), under_test.next()
    assert (for_stop[0].arrays, for_stop[0].error, for_stop[1]) == ({}, None, FINAL)
    assert (for_other[0].error, for_other[1]) == (None, FINAL)
    assert for_other[0].arrays["output_ids"].shape[2] > 1
    assert under_test.sent.empty()


def test_a_cancelled_request_is_told_so(under_test: Loaded) -> None:
    _, request = under_test.execute(request_output_len=scalar(10**8))
    request.cancelled = True
    response, flags = under_test.next()
    assert response.error is not None
    assert (response.error.code, flags) == ("CANCELLED", FINAL)


@pytest.mark.parametrize(
    ("arrays", "code", "message"),
    [
        ({"request_output_len": scalar(0)}, "INVALID_ARG", "request_output_len is 0; ask for at least one token"),
        ({"stop": scalar(True, bool), "id_": ""}, "INVALID_ARG", "stop needs the request id of the generation to stop"),
        ({**TAG, "input_ids": scalar(13)}, "INTERNAL", "ONNX Runtime failed: out of memory"),
    ],
)
def test_what_fails_at_once_has_its_status(under_test: Loaded, arrays: dict[str, Any], code: str, message: str) -> None:
    under_test.failing.add(13)
    returned, _ = under_test.execute(**arrays)
    error = immediate(under_test, returned).error
    assert error is not None
    assert (error.code, error.message) == (code, message)


def test_what_fails_later_has_its_status(under_test: Loaded) -> None:
    under_test.failing.add(13)
    under_test.execute(input_ids=scalar(12))
    response, flags = under_test.next()
    assert response.error is not None
    assert (response.error.code, response.error.message, flags) == ("INTERNAL", "ONNX Runtime failed: out of memory", FINAL)


def test_too_many_are_unavailable(under_test: Loaded) -> None:
    for name in ("a", "b"):
        under_test.execute(request_output_len=scalar(10**8), id_=name)
    under_test.execute(request_output_len=scalar(5), id_="c")
    response, flags = under_test.next()
    assert response.error is not None
    assert (response.error.code, flags) == ("UNAVAILABLE", FINAL)
