"""The border with Triton: who is answered how and when, and with which status. vLLM itself is not here: see test_real_vllm."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from answer import Answer
from build import ROOT
from engine_request import InvalidRequestError
from engine_request import Request as Wanted
from tests.support.fake_backend import FINAL, InferenceResponse, Request, loaded, scalar

PATIENCE_S = 20.0
VOCAB_SIZE = 16
Sent = Queue[tuple[InferenceResponse, int]]


class Engine:
    """What takes the place of vLLM: after token t comes t + 1, for every request that is under way."""

    max_tokens, vocab_size = 10**9, VOCAB_SIZE

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder, self.settings = folder, settings
        self.under_way: list[Answer] = []
        self.closed = False

    def check(self, request: Wanted) -> None:
        if request.sampling.bad_words:
            raise InvalidRequestError("bad_words_list is not served")

    def begin(self, request: Wanted) -> Answer:
        self.under_way.append(Answer(request, request.prompt_ids, VOCAB_SIZE))
        return self.under_way[-1]

    def step(self) -> list[Answer]:
        time.sleep(0.001)
        advanced = list(self.under_way)
        for answer in advanced:
            last = [*answer.request.prompt_ids, *answer.tokens][-1]
            if answer.request.prompt_ids == [12]:
                raise RuntimeError("out of memory")
            answer.advance([(last + 1) % VOCAB_SIZE], len(answer.tokens) + 1 == answer.request.max_new_tokens, 0)
        self.under_way = [answer for answer in advanced if not answer.finished]
        return advanced

    def leave(self, answer: Answer) -> None:
        self.under_way = [other for other in self.under_way if other is not answer]

    def close(self) -> None:
        self.closed = True


class Loaded:
    """A model, and the requests that it is sent."""

    def __init__(self, model: Any) -> None:
        self.model, self.sent = model, Sent()

    def execute(self, id_: str = "1", **arrays: Any) -> Request:
        arrays = {"input_ids": scalar(3), "input_lengths": scalar(1), "request_output_len": scalar(3), **arrays}
        request = Request(arrays, ["output_ids", "sequence_length"], id_, lambda response, flags: self.sent.put((response, flags)))
        assert self.model.execute([request]) is None
        return request

    def next(self) -> tuple[InferenceResponse, int]:
        return self.sent.get(timeout=PATIENCE_S)

    def error(self) -> tuple[str, str]:
        response, flags = self.next()
        assert flags == FINAL
        assert response.error is not None
        return response.error.code, response.error.message


@pytest.fixture(params=[False, True], ids=["unary", "decoupled"])
def decoupled(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def under_test(decoupled: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loaded]:
    instead = ModuleType("vllm_engine")
    settings = SimpleNamespace(block_size=32, max_num_seqs=1)
    instead.__dict__.update(VllmEngine=Engine, EngineSettings=SimpleNamespace(read=lambda parameters: settings))
    monkeypatch.setitem(sys.modules, "vllm_engine", instead)
    interval = sys.getswitchinterval()
    with loaded(ROOT / "model_repository" / "tensorrt_llm" / "vllm" / "1" / "model.py") as module:
        config = {"parameters": {"max_queue_size": {"string_value": "1"}}, "model_transaction_policy": {"decoupled": decoupled}}
        model = module.TritonPythonModel()
        model.initialize({"model_config": json.dumps(config), "model_repository": "repository", "model_version": "1"})
        assert model._engine.folder == Path("repository/1/awq")
        yield Loaded(model)
        model.finalize()
        assert model._engine.closed
    sys.setswitchinterval(interval)


def test_a_request_is_answered_once_when_all_is_there(under_test: Loaded) -> None:
    under_test.execute()
    response, flags = under_test.next()
    assert flags == FINAL
    assert response.arrays["output_ids"].tolist() == [[[3, 4, 5, 6]]]
    assert under_test.sent.empty()


def test_streaming_is_a_matter_of_the_model(under_test: Loaded, decoupled: bool) -> None:
    under_test.execute(streaming=scalar(True, bool))
    if not decoupled:
        assert under_test.error()[0] == "INVALID_ARG"
        return
    pieces = [under_test.next() for _ in range(3)]
    assert [(piece.arrays["output_ids"].tolist(), flags) for piece, flags in pieces] == [([[[4]]], 0), ([[[5]]], 0), ([[[6]]], FINAL)]


def test_what_the_engine_does_not_serve_is_refused_at_once_by_name(under_test: Loaded) -> None:
    under_test.execute(bad_words_list=scalar(1).reshape(1, 1, 1).repeat(2, axis=1))
    assert under_test.error() == ("INVALID_ARG", "bad_words_list is not served")


def test_a_stop_request_ends_the_other_and_has_an_empty_response_itself(under_test: Loaded) -> None:
    under_test.execute(id_="a", input_ids=scalar(14), request_output_len=scalar(10**8))
    under_test.execute(id_="a", stop=scalar(True, bool))
    answers = [under_test.next(), under_test.next()]
    assert sorted(len(response.arrays) for response, _ in answers) == [0, 2]
    assert all(response.error is None and flags == FINAL for response, flags in answers)


def test_a_stop_request_without_an_id_is_refused(under_test: Loaded) -> None:
    under_test.execute(id_="", stop=scalar(True, bool))
    assert under_test.error() == ("INVALID_ARG", "stop needs the request id of the generation to stop")


def test_a_cancelled_request_is_told_so(under_test: Loaded) -> None:
    request = under_test.execute(input_ids=scalar(14), request_output_len=scalar(10**8))
    request.cancelled = True
    assert under_test.error()[0] == "CANCELLED"


def test_what_vllm_cannot_compute_is_internal(under_test: Loaded) -> None:
    under_test.execute(input_ids=scalar(12))
    assert under_test.error() == ("INTERNAL", "vLLM failed: out of memory")


def test_too_many_are_unavailable(under_test: Loaded) -> None:
    for name in ("a", "b"):
        under_test.execute(id_=name, input_ids=scalar(14), request_output_len=scalar(10**8))
    under_test.execute(id_="c")
    assert under_test.error()[0] == "UNAVAILABLE"
