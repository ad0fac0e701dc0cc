"""A repository assembled with decoupled=yes: tokens as they come, one final response each, and the tagger none the wiser."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from build import repository as assembly
from build import settings
from build.ports import free_ports
from build.serve import Server, running
from one_pass import Dialogue, Prompt
from pika_tagger import TaggerClient
from tests.e2e.conftest import MODEL
from tests.support.engine_client import STOP, generate, infer, stream, tensors, to_generate

pytestmark = pytest.mark.e2e

YES = np.array([[True]])
IDS = list(range(100, 140))


@pytest.fixture(scope="module")
def decoupled(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over such a repository, made from the same engine."""
    root = tmp_path_factory.mktemp("decoupled")
    for name in ("awq", "engine-cpu"):
        shutil.copytree(MODEL.folder / name, root / "checkpoints" / MODEL.name / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "CHECKPOINTS", root / "checkpoints")
        patch.setattr(assembly, "ROOT", root)
        assembly.assemble(MODEL, settings.target("cpu"), "codes", decoupled=True)
    with running(root / "checkpoints" / MODEL.name / "triton-cpu", free_ports(), root / "serve.log") as server:
        server.wait_until_ready()
        yield server


def test_tokens_come_one_by_one_and_are_those_of_a_whole_answer(server: Server, decoupled: Server) -> None:
    whole = generate(server, IDS, 12, return_log_probs=YES, exclude_input_in_output=YES)
    with stream(decoupled) as opened:
        opened.send("tensorrt_llm", to_generate(IDS, 12, streaming=YES, return_log_probs=YES), "1")
        pieces = opened.rest("1")
    assert [piece["output_ids"].shape for piece in pieces] == [(1, 1, 1)] * 12
    assert [piece["output_ids"].item() for piece in pieces] == whole["output_ids"].reshape(-1).tolist()
    assert {piece["sequence_length"].item() for piece in pieces} == {1}
    np.testing.assert_allclose([piece["output_log_probs"].item() for piece in pieces], whole["output_log_probs"][0, 0], atol=1e-4)
    np.testing.assert_allclose([piece["cum_log_probs"].item() for piece in pieces], np.cumsum(whole["output_log_probs"]), atol=1e-3)


def test_without_streaming_there_is_one_response_with_the_prompt(server: Server, decoupled: Server) -> None:
    with stream(decoupled) as opened:
        opened.send("tensorrt_llm", to_generate(IDS, 5), "1")
        (whole,) = opened.rest("1")
    assert whole["output_ids"].tolist() == generate(server, IDS, 5)["output_ids"].tolist()


def test_an_end_token_comes_as_an_empty_last_piece(server: Server, decoupled: Server) -> None:
    first, end = generate(server, IDS, 2, exclude_input_in_output=YES)["output_ids"].reshape(-1).tolist()
    assert first != end
    with stream(decoupled) as opened:
        opened.send("tensorrt_llm", to_generate(IDS, 9, streaming=YES, end_id=np.array([[end]], np.int32)), "1")
        pieces = opened.rest("1")
    assert [piece["output_ids"].reshape(-1).tolist() for piece in pieces] == [[first], []]


def test_metrics_and_logits_of_the_prompt_come_once(decoupled: Server) -> None:
    flags = dict.fromkeys(("streaming", "return_perf_metrics", "return_context_logits", "return_generation_logits"), YES)
    with stream(decoupled) as opened:
        opened.send("tensorrt_llm", to_generate(IDS, 3, **flags), "1")
        pieces = opened.rest("1")
    assert ["context_logits" in piece for piece in pieces] == [True, False, False]
    assert ["arrival_time_ns" in piece for piece in pieces] == [False, False, True]
    assert [piece["generation_logits"].shape[2] for piece in pieces] == [1, 1, 1]
    assert [piece["generation_logits"].argmax() for piece in pieces] == [piece["output_ids"].item() for piece in pieces]


def test_two_streams_are_interleaved(decoupled: Server) -> None:
    with stream(decoupled) as opened:
        for name in ("1", "2"):
            opened.send("tensorrt_llm", to_generate(IDS, 60, streaming=YES), name)
        order = [opened.next()[0] for _ in range(120)]
    last = {name: len(order) - 1 - order[::-1].index(name) for name in order}
    assert order.index("1") < order.index("2") < last["1"]


def test_a_stop_request_ends_a_stream_early_and_is_answered_itself(decoupled: Server) -> None:
    with stream(decoupled) as opened:
        opened.send("tensorrt_llm", to_generate(IDS, 900, streaming=YES), "1")
        opened.next()
        opened.send("tensorrt_llm", STOP, "1")
        n_tokens, finals, empty = 0, 0, 0
        while finals < 2:
            name, arrays, final = opened.next()
            assert name == "1"
            finals += final
            empty += not arrays
            n_tokens += arrays["output_ids"].size if arrays else 0
    assert empty == 1
    assert n_tokens < 900


def test_errors_come_through_the_stream_and_it_goes_on(decoupled: Server) -> None:
    with stream(decoupled) as opened:
        opened.send("tensorrt_llm", to_generate(IDS, 0), "1")
        with pytest.raises(InferenceServerException, match="request_output_len is 0"):
            opened.next()
        opened.send("tensorrt_llm", to_generate(IDS, 2), "2")
        assert len(opened.rest("2")) == 1


def test_the_text_of_a_stream_is_the_text_of_the_whole_answer(server: Server, decoupled: Server) -> None:
    request = {"text_input": np.array([["hello Pika"]], np.object_), "max_tokens": np.array([[8]], np.int32)}
    whole = infer(server, ["text_output"], "ensemble", **request, exclude_input_in_output=YES)["text_output"]
    with stream(decoupled) as opened:
        opened.send("ensemble", {**request, "stream": YES}, "1")
        pieces = opened.rest("1")
    assert len(pieces) == 8
    assert {piece["text_output"].shape for piece in pieces} == {(1,)}
    assert b"".join(piece["text_output"][0] for piece in pieces).split() == whole[0].split()


def test_a_decoupled_engine_can_only_be_called_through_a_stream(decoupled: Server) -> None:
    with InferenceServerClient(decoupled.url) as triton, pytest.raises(InferenceServerException) as caught:
        triton.infer("tensorrt_llm", tensors(to_generate(IDS, 2)))
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize("strategy", ["codes", "words", "json"])
def test_tags_are_those_of_the_other_repository(client: TaggerClient, decoupled: Server, strategy: str) -> None:
    dialogue = {"user_last_message": "2+2=4", "pika_response": "Chính xác! Cậu giỏi quá!"}
    with TaggerClient(decoupled.url, timeout_s=10.0, budget_ms=math.inf, on_failure="raise") as other:
        found, expected = (tagger.tag(**dialogue, strategy=strategy) for tagger in (other, client))
    assert found.json() == expected.json()
    assert found.emotion_scores == pytest.approx(expected.emotion_scores, abs=1e-4)


def test_tags_come_while_a_stream_goes_on(decoupled: Server, prompt: Prompt) -> None:
    one_token = to_generate(prompt.encode(Dialogue("hi", "Hello!")), 1, return_generation_logits=YES)
    with stream(decoupled) as opened:
        opened.send("tensorrt_llm", to_generate(IDS, 300, streaming=YES), "long")
        opened.next()
        for i in range(5):
            opened.send("tensorrt_llm", one_token, f"tag {i}")
        order = [opened.next()[0] for _ in range(304)]
    assert order[-1] == "long"
    assert [name for name in order if name != "long"] == [f"tag {i}" for i in range(5)]
