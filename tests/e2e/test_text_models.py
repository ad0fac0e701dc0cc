"""preprocessing, postprocessing and ensemble through the real server, called as NVIDIA's own scripts call them."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer
from tritonclient.utils import InferenceServerException

from build.contract import MODELS
from build.serve import Server
from tests.support.engine_client import infer, stream, to_generate

pytestmark = pytest.mark.e2e

TEXT = "Con voi ăn cỏ. Hello, Pika!"
NO = np.array([[False]])


def texts(*values: str | bytes) -> npt.NDArray[np.object_]:
    return np.array([[value.encode() if isinstance(value, str) else value for value in values]], dtype=np.object_)


def int32(value: int) -> npt.NDArray[np.int32]:
    return np.array([[value]], dtype=np.int32)


@pytest.fixture(scope="module")
def tokenizer(repository: Path) -> Tokenizer:
    return Tokenizer.from_file(str(repository / "preprocessing" / "1" / "tokenizer.json"))


def preprocess(server: Server, text: str, **more: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    return infer(server, None, "preprocessing", QUERY=texts(text), REQUEST_OUTPUT_LEN=int32(7), **more)


def test_text_becomes_the_tokenizers_ids_with_all_that_the_engine_wants(server: Server, tokenizer: Tokenizer) -> None:
    out = preprocess(server, TEXT, STOP_WORDS_DICT=texts(""), BAD_WORDS_DICT=texts(""))
    ids = tokenizer.encode(TEXT).ids
    assert out["INPUT_ID"].tolist() == [ids]
    assert out["REQUEST_INPUT_LEN"].tolist() == [[len(ids)]]
    assert out["REQUEST_OUTPUT_LEN"].tolist() == [[7]]
    end = tokenizer.token_to_id("<|endoftext|>")
    assert out["OUT_END_ID"].tolist() == out["OUT_PAD_ID"].tolist() == out["DECODER_INPUT_ID"].tolist() == [[end]]
    assert out["STOP_WORDS_IDS"].shape == out["BAD_WORDS_IDS"].shape == (1, 2, 0)
    assert out["EMBEDDING_BIAS"].shape == (1, 0)
    dtypes = {name: tensor.dtype for name, tensor in MODELS["preprocessing"].outputs.items()}
    assert {name: str(array.dtype) for name, array in out.items()} == {
        name: {"INT32": "int32", "FP32": "float32"}[dtypes[name]] for name in out
    }


def test_words_and_bias_become_ids(server: Server, tokenizer: Tokenizer) -> None:
    word_ids = [tokenizer.encode(word, add_special_tokens=False).ids for word in ("elephant", "voi")]
    out = preprocess(
        server,
        TEXT,
        STOP_WORDS_DICT=texts("elephant", "", "voi"),
        BAD_WORDS_DICT=texts("voi"),
        EMBEDDING_BIAS_WORDS=texts("voi"),
        EMBEDDING_BIAS_WEIGHTS=np.array([[2.5]], np.float32),
        END_ID=int32(-1),
        PAD_ID=int32(9),
    )
    flat, ends = out["STOP_WORDS_IDS"][0].tolist()
    assert flat == word_ids[0] + word_ids[1]
    assert [end for end in ends if end >= 0] == [len(word_ids[0]), len(flat)]
    assert out["BAD_WORDS_IDS"][0, 0].tolist() == word_ids[1]
    biased = np.flatnonzero(out["EMBEDDING_BIAS"][0]).tolist()
    assert biased == sorted(set(word_ids[1]))
    assert out["EMBEDDING_BIAS"].shape == (1, tokenizer.get_vocab_size())
    assert (out["OUT_END_ID"].tolist(), out["OUT_PAD_ID"].tolist()) == ([[-1]], [[9]])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"QUERY": texts(b"\xff\xfe")}, "QUERY is not valid UTF-8"),
        ({"IMAGE_URL": texts("http://example.com/cat.png")}, "IMAGE_URL is not served"),
        ({"IMAGE_BYTES": np.ones((1, 1, 1, 1, 3), np.uint8)}, "IMAGE_BYTES is not served"),
        (
            {"EMBEDDING_BIAS_WORDS": texts("a", "b"), "EMBEDDING_BIAS_WEIGHTS": np.ones((1, 1), np.float32)},
            "EMBEDDING_BIAS_WORDS has 2 words",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(server: Server, more: dict[str, npt.NDArray[Any]], message: str) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        infer(server, None, "preprocessing", **{"QUERY": texts(TEXT), "REQUEST_OUTPUT_LEN": int32(1), **more})
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_ids_become_text_of_one_dimension(server: Server, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT).ids
    strange = [2**31 - 1, -5, tokenizer.token_to_id("<|endoftext|>"), *ids, 77, 78]
    out = infer(server, None, "postprocessing", TOKENS_BATCH=np.array([[strange]], np.int32), SEQUENCE_LENGTH=int32(len(strange) - 2))
    assert out["OUTPUT"].tolist() == [tokenizer.decode(ids).encode()]


def test_nothing_becomes_an_empty_text(server: Server) -> None:
    out = infer(server, None, "postprocessing", TOKENS_BATCH=np.zeros((1, 1, 0), np.int32), SEQUENCE_LENGTH=int32(0))
    assert out["OUTPUT"].tolist() == [b""]


def test_lengths_that_do_not_fit_are_refused(server: Server) -> None:
    with pytest.raises(InferenceServerException, match="the first two dimensions must agree"):
        infer(server, None, "postprocessing", TOKENS_BATCH=np.zeros((1, 2, 3), np.int32), SEQUENCE_LENGTH=int32(0))


def test_the_three_models_by_hand_say_what_the_ensemble_says(server: Server) -> None:
    """As end_to_end_test.py goes through them."""
    before = infer(
        server,
        ["INPUT_ID", "DECODER_INPUT_ID", "REQUEST_INPUT_LEN", "REQUEST_OUTPUT_LEN", "OUT_END_ID", "OUT_PAD_ID"],
        "preprocessing",
        QUERY=texts(TEXT),
        BAD_WORDS_DICT=texts(""),
        STOP_WORDS_DICT=texts(""),
        REQUEST_OUTPUT_LEN=int32(9),
    )
    engine = infer(
        server,
        ["output_ids", "sequence_length"],
        input_ids=before["INPUT_ID"],
        decoder_input_ids=before["DECODER_INPUT_ID"],
        input_lengths=before["REQUEST_INPUT_LEN"],
        request_output_len=before["REQUEST_OUTPUT_LEN"],
        end_id=before["OUT_END_ID"],
        pad_id=before["OUT_PAD_ID"],
    )
    after = infer(server, None, "postprocessing", TOKENS_BATCH=engine["output_ids"], SEQUENCE_LENGTH=engine["sequence_length"])
    ensemble = infer(
        server, ["text_output"], "ensemble", text_input=texts(TEXT), max_tokens=int32(9), bad_words=texts(""), stop_words=texts("")
    )
    assert ensemble["text_output"].tolist() == after["OUTPUT"].tolist()
    assert after["OUTPUT"][0].decode().startswith(TEXT)


def test_the_ensemble_answers_as_end_to_end_grpc_client_asks(server: Server) -> None:
    """A stream although nothing is streamed, every output named, the input left in by an explicit False."""
    metrics = {name for name in MODELS["ensemble"].outputs if name.endswith(("_blocks", "_ns", "_rate", "_tokens"))}
    flags = ("return_log_probs", "return_context_logits", "return_generation_logits", "return_perf_metrics")
    with stream(server) as opened:
        opened.send(
            "ensemble",
            {
                "text_input": texts(TEXT),
                "max_tokens": int32(5),
                "stream": NO,
                "beam_width": int32(1),
                "temperature": np.array([[1.0]], np.float32),
                "exclude_input_in_output": NO,
                "top_k": int32(1),
                "repetition_penalty": np.array([[1.0]], np.float32),
                "seed": np.array([[7]], np.uint64),
                **dict.fromkeys(flags, ~NO),
            },
            "1",
        )
        name, out, _ = opened.next()
    assert name == "1"
    assert out["text_output"].shape == (1,)
    assert out["text_output"][0].decode().startswith(TEXT)
    named = {"text_output", "cum_log_probs", "output_log_probs", "context_logits", "generation_logits"}
    assert out.keys() == named | metrics - {"num_input_tokens", "num_output_tokens"}
    assert out["generation_logits"].shape[:3] == (1, 1, 5)
    assert all(out[metric].shape == (1, 1) for metric in metrics & out.keys())


def test_the_engine_answers_as_inflight_batcher_llm_client_asks(server: Server) -> None:
    out = infer(
        server,
        None,
        **to_generate([5, 6, 7, 8], 6),
        beam_width=int32(1),
        temperature=np.array([[1.0]], np.float32),
        streaming=NO,
        end_id=int32(-1),
        pad_id=int32(50256),
        runtime_top_k=int32(1),
        runtime_top_p=np.array([[0.0]], np.float32),
    )
    assert list(out) == ["output_ids", "sequence_length"]  # benchmark_core_model.py reads the first without looking at its name
    assert out["output_ids"].shape == (1, 1, 10)
    assert out["output_ids"][0, 0, :4].tolist() == [5, 6, 7, 8]
    assert out["sequence_length"].tolist() == [[10]]


def test_a_word_stops_the_ensemble(server: Server, tokenizer: Tokenizer) -> None:
    request = {"text_input": texts(TEXT), "max_tokens": int32(9), "exclude_input_in_output": ~NO}
    whole = infer(server, ["text_output"], "ensemble", **request)["text_output"][0].decode()
    ids = infer(server, None, **to_generate(tokenizer.encode(TEXT).ids, 9), exclude_input_in_output=~NO)["output_ids"][0, 0].tolist()
    word = next(
        text for token in ids if (text := tokenizer.decode([token])) and tokenizer.encode(text, add_special_tokens=False).ids == [token]
    )
    stopped = infer(server, ["text_output"], "ensemble", **request, stop_words=texts(word))["text_output"][0].decode()
    assert stopped.endswith(word)
    assert whole.startswith(stopped)
    assert len(stopped) < len(whole)
    assert word not in infer(server, ["text_output"], "ensemble", **request, bad_words=texts(word))["text_output"][0].decode()


def test_what_the_engine_refuses_the_ensemble_refuses(server: Server) -> None:
    with pytest.raises(InferenceServerException, match="beam_width is 2; this target serves 1 only"):
        infer(server, ["text_output"], "ensemble", text_input=texts(TEXT), max_tokens=int32(9), beam_width=int32(2))


def test_the_ensemble_answers_over_http(server: Server) -> None:
    body = json.dumps({"text_input": TEXT, "max_tokens": 4}).encode()
    address = f"http://127.0.0.1:{server.ports.http_port}/v2/models/ensemble/generate"
    with urllib.request.urlopen(urllib.request.Request(address, data=body)) as response:
        answer = json.load(response)
    assert answer["text_output"].startswith(TEXT)
    assert answer["model_name"] == "ensemble"
