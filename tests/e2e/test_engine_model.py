"""The model `tensorrt_llm` called directly, as TensorRT-LLM's own clients would."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.utils import InferenceServerException

from build.serve import Server
from one_pass import Dialogue, Prompt
from tests.support.engine_client import generate, infer, to_generate

pytestmark = pytest.mark.e2e

YES = np.array([[True]])


def int32(value: int) -> npt.NDArray[np.int32]:
    return np.array([[value]], dtype=np.int32)


def new_tokens(server: Server, ids: list[int], n_new: int, **more: npt.NDArray[Any]) -> list[int]:
    found: list[int] = generate(server, ids, n_new, exclude_input_in_output=YES, **more)["output_ids"][0, 0].tolist()
    return found


def test_greedy_generation_has_the_shapes_of_tensorrt_llm(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    out = generate(server, ids, 5, return_generation_logits=np.array([[True]]))
    vocab_size = prompt.codec.vocab_size
    assert out["output_ids"].shape == (1, 1, len(ids) + 5)
    assert out["sequence_length"].tolist() == [[len(ids) + 5]]
    assert out["generation_logits"].shape == (1, 1, 5, vocab_size)
    assert out["generation_logits"].dtype == np.float32
    assert out["output_ids"][0, 0, : len(ids)].tolist() == ids
    assert out["output_ids"][0, 0, len(ids) :].tolist() == out["generation_logits"][0, 0].argmax(axis=-1).tolist()


def test_logits_come_only_if_asked_for(server: Server, prompt: Prompt) -> None:
    assert "generation_logits" not in generate(server, prompt.encode(Dialogue("hi", "Hello!")), 1)


def test_input_can_be_left_out_and_end_id_ends_early(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    tokens = new_tokens(server, ids, 3)
    assert len(tokens) == 3
    ended = generate(server, ids, 9, exclude_input_in_output=YES, end_id=int32(tokens[1]))
    assert ended["output_ids"][0, 0].tolist() == tokens[: tokens.index(tokens[1])]
    assert ended["sequence_length"].tolist() == [[ended["output_ids"].shape[2]]]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"request_output_len": int32(1000)}, "request_output_len of 1000 exceed the engine's 1024 tokens"),
        ({"request_output_len": int32(0)}, "at least one"),
        ({"beam_width": int32(2)}, "beam_width is 2; this target serves 1 only"),
        ({"num_return_sequences": int32(2)}, "num_return_sequences is 2; this target serves 1 only"),
        ({"lora_task_id": np.array([[1]], np.uint64)}, "lora_task_id is for LoRA"),
        ({"draft_input_ids": int32(1)}, "draft_input_ids is for speculative decoding"),
        ({"prompt_embedding_table": np.ones((1, 1, 8), np.float16)}, "prompt_embedding_table is for prompt tuning and multimodal input"),
        ({"guided_decoding_guide_type": np.array([["json"]], np.object_)}, "guided_decoding_guide_type is for guided decoding"),
        ({"streaming": YES}, "streaming is only served by a decoupled model"),
        ({"temperature": np.array([[-1]], np.float32)}, "temperature is -1"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(server: Server, prompt: Prompt, more: dict[str, npt.NDArray[Any]], message: str) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    with pytest.raises(InferenceServerException, match=message) as caught:
        infer(server, None, **{**to_generate(ids, 5), **more})
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_any_id_is_survived_and_comes_back_as_it_was_sent(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    before = generate(server, ids, 3)["output_ids"].tolist()
    random = np.random.default_rng(1).integers(-(2**31), 2**31, 40).tolist()
    strange = [2**31 - 1, -(2**31), 4096, -1, *random]
    assert generate(server, strange, 3)["output_ids"][0, 0, : len(strange)].tolist() == strange
    assert generate(server, ids, 3)["output_ids"].tolist() == before


def test_a_seed_decides_what_is_drawn(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))[:-5]

    def drawn(seed: int) -> list[int]:
        hot = {"temperature": np.array([[3]], np.float32), "runtime_top_p": np.array([[1]], np.float32)}
        return new_tokens(server, ids, 12, **hot, seed=np.array([[seed]], np.uint64))

    assert drawn(2**64 - 1) == drawn(2**64 - 1)
    assert drawn(1) != drawn(2)
    assert new_tokens(server, ids, 12, runtime_top_k=int32(1)) == new_tokens(server, ids, 12)


def test_words_stop_and_are_gone_around(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    tokens = new_tokens(server, ids, 6)
    two = np.array([[[9, tokens[0], tokens[1]], [1, 3, -1]]], np.int32)
    assert new_tokens(server, ids, 6, stop_words_list=two) == tokens[:2]
    others = new_tokens(server, ids, 6, bad_words_list=np.array([[[tokens[0]], [1]]], np.int32))
    assert tokens[0] not in others
    assert len(new_tokens(server, ids, 4, end_id=int32(tokens[0]), min_tokens=int32(4))) == 4
    assert new_tokens(server, ids, 4, end_id=int32(tokens[0])) == []


def test_bias_and_penalties_change_what_is_chosen(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    bias = np.zeros((1, prompt.codec.vocab_size), np.float32)
    bias[0, 77] = 100
    assert new_tokens(server, ids, 3, embedding_bias=bias) == [77] * 3
    spread = new_tokens(server, ids, 3, embedding_bias=bias, presence_penalty=np.array([[200]], np.float32))
    assert spread[0] == 77
    assert 77 not in spread[1:]


def test_probabilities_and_logits_belong_together(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    flags = dict.fromkeys(("return_log_probs", "return_generation_logits", "return_context_logits", "exclude_input_in_output"), YES)
    out = generate(server, ids, 4, **flags)
    logits = out["generation_logits"][0, 0].astype(np.float64)
    log_probs = logits.max(axis=-1) - np.log(np.exp(logits).sum(axis=-1))
    np.testing.assert_allclose(out["output_log_probs"][0, 0], log_probs, atol=1e-3)
    np.testing.assert_allclose(out["cum_log_probs"], [[log_probs.sum()]], atol=1e-3)
    assert out["context_logits"].shape == (1, len(ids), prompt.codec.vocab_size)
    np.testing.assert_allclose(out["context_logits"][0, -1], logits[0], atol=1e-5)
    assert out["context_logits"][0, -1].argmax() == out["output_ids"][0, 0, 0]


def test_blocks_are_reused_where_a_prompt_came_before(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("A sentence that nobody has said before.", "And so is this one!"))
    counts = {f"return_{name}": YES for name in ("perf_metrics", "num_input_tokens", "num_output_tokens")}
    generate(server, ids, 2)
    out = generate(server, ids, 3, **counts)
    total = -(-(len(ids) + 3) // 32)
    assert out["kv_cache_reused_blocks"].tolist() == [[(len(ids) - 1) // 32]]
    assert out["kv_cache_alloc_total_blocks"].tolist() == [[total]]
    assert out["kv_cache_alloc_new_blocks"].tolist() == [[total - (len(ids) - 1) // 32]]
    assert (out["num_input_tokens"].tolist(), out["num_output_tokens"].tolist()) == ([[len(ids)]], [[3]])
    assert generate(server, [50, 51, 52] * 20, 3, **counts)["kv_cache_reused_blocks"].tolist() == [[0]]
    times = [int(out[f"{name}_time_ns"][0, 0]) for name in ("arrival", "first_scheduled", "first_token", "last_token")]
    assert times == sorted(times)


def test_a_request_must_name_the_outputs_that_nvidias_backend_needs(server: Server, prompt: Prompt) -> None:
    with pytest.raises(InferenceServerException, match="sequence_length must be among the requested outputs"):
        infer(server, ["output_ids"], **to_generate(prompt.encode(Dialogue("hi", "Hello!")), 2))


@pytest.mark.parametrize("first_field", ["emotion_name", "celebrate"])
def test_the_model_also_answers_in_json_after_a_forced_stem(server: Server, prompt: Prompt, first_field: str) -> None:
    stem = '{"' + first_field + '": "'
    dialogue = Dialogue("Dạ, thủ đô của Việt Nam là Hà Nội ạ!", "Chính xác! Con thông minh lắm! Hà Nội là thủ đô của nước ta.")
    ids = prompt.encode(dialogue) + prompt.codec.encode_template(stem)
    end = prompt.codec.encode_template(prompt.task.template.example_end)
    out = generate(server, ids, 24, exclude_input_in_output=np.array([[True]]), end_id=np.array([end], dtype=np.int32))
    answer = json.loads(stem + prompt.codec.decode(out["output_ids"][0, 0].tolist()))
    assert answer["emotion_name"] in ("proud", "thats_right")
    assert answer["celebrate"] == "yes"
