"""The model `tensorrt_llm` called directly, as TensorRT-LLM's own clients would."""

import json

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from build.serve import Server
from one_pass import Dialogue, Prompt
from tests.support.engine_client import generate

pytestmark = pytest.mark.e2e


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
    first = generate(server, ids, 1, exclude_input_in_output=np.array([[True]]))["output_ids"]
    assert first.shape == (1, 1, 1)
    ended = generate(server, ids, 9, exclude_input_in_output=np.array([[True]]), end_id=first.reshape(1, 1).astype(np.int32))
    assert ended["output_ids"].tolist() == first.tolist()


@pytest.mark.parametrize(("n_new", "message"), [(1000, "request_output_len of 1000 exceed the engine's 1024 tokens"), (0, "at least one")])
def test_impossible_lengths_are_refused(server: Server, prompt: Prompt, n_new: int, message: str) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        generate(server, prompt.encode(Dialogue("hi", "Hello!")), n_new)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_ids_outside_the_vocabulary_are_refused_and_harm_nothing(server: Server, prompt: Prompt) -> None:
    ids = prompt.encode(Dialogue("hi", "Hello!"))
    before = generate(server, ids, 3)["output_ids"]
    with pytest.raises(InferenceServerException, match="outside the vocabulary"):
        generate(server, [2**31 - 1, *ids], 3)
    assert generate(server, ids, 3)["output_ids"].tolist() == before.tolist()


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
