"""Every input of the contract is read, refused by name or known to be without meaning; outputs have NVIDIA's names, order and shapes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tensors
from build.contract import MODELS, Tensor
from engine_request import InvalidRequestError
from generation import Generation
from tests.support.rule_engine import VOCAB_SIZE, rule_engine

INPUTS, OUTPUTS = MODELS["tensorrt_llm"].inputs, MODELS["tensorrt_llm"].outputs
REQUIRED = ["output_ids", "sequence_length"]
FLAGS: dict[str, Any] = {name: [[True]] for name in INPUTS if name.startswith("return_")}
DTYPES: dict[str, type] = {
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "BOOL": np.bool_,
    "STRING": np.object_,
}
READ: dict[str, Any] = {
    "input_ids": [[3, 1, 4]],
    "input_lengths": [[3]],
    "request_output_len": [[2]],
    "end_id": [[6]],
    "stop_words_list": [[[5], [1]]],
    "bad_words_list": [[[5], [1]]],
    "embedding_bias": [[0.0] * 7 + [9.0]],
    "temperature": [[0.5]],
    "runtime_top_k": [[3]],
    "runtime_top_p": [[0.5]],
    "repetition_penalty": [[1.5]],
    "min_tokens": [[2]],
    "presence_penalty": [[1.0]],
    "frequency_penalty": [[1.0]],
    "seed": [[2**64 - 1]],
    "return_log_probs": [[True]],
    "return_context_logits": [[True]],
    "return_generation_logits": [[True]],
    "return_perf_metrics": [[True]],
    "return_num_input_tokens": [[True]],
    "return_num_output_tokens": [[True]],
    "exclude_input_in_output": [[True]],
    "streaming": [[True]],
}


def arrays(**values: Any) -> dict[str, npt.NDArray[Any]]:
    values = {"input_ids": [[3, 1, 4]], "input_lengths": [[3]], "request_output_len": [[2]], **values}
    return {name: np.array(value, dtype=DTYPES[INPUTS[name].dtype]) for name, value in values.items()}


def read(outputs: list[str] | None = None, decoupled: bool = True, **values: Any) -> tensors.Asked:
    return tensors.read(arrays(**values), list(OUTPUTS) if outputs is None else outputs, rule_engine(), decoupled)


def written(asked: tensors.Asked, n_sent: int = 0, tokens_per_block: int = 2) -> dict[str, npt.NDArray[Any]]:
    engine = rule_engine()
    sequence = engine.new_sequence()
    sequence.extend([3, 1, 9])
    generation = Generation(asked.request, sequence, engine)
    generation.run()
    return tensors.write(asked, generation, n_sent, tokens_per_block)


def anything(tensor: Tensor) -> npt.NDArray[Any]:
    return np.ones([1, *(abs(size) for size in tensor.dims)]).astype(DTYPES[tensor.dtype])


def test_every_input_of_the_contract_has_its_place_and_only_one() -> None:
    places = [set(READ), set(tensors.NOT_SERVED), set(tensors.ONLY), set(tensors.WITHOUT_MEANING), {"stop"}]
    assert set.union(*places) == INPUTS.keys()
    assert sum(map(len, places)) == len(INPUTS)


@pytest.mark.parametrize("name", [name for name in READ if name not in ("input_ids", "input_lengths", "request_output_len")])
def test_what_is_read_makes_a_difference(name: str) -> None:
    def without_time(asked: tensors.Asked) -> dict[str, object]:
        # Arrays have no truth value, so the bias is compared as text.
        return {**{key: repr(value) for key, value in vars(asked).items()}, "arrival_ns": 0}

    assert without_time(read(**{name: READ[name]})) != without_time(read())


@pytest.mark.parametrize("name", tensors.NOT_SERVED)
def test_what_cannot_be_served_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{name} is for .*, which this target does not serve: leave it out$"):
        tensors.read({**arrays(), name: anything(INPUTS[name])}, REQUIRED, rule_engine(), decoupled=True)
    tensors.read({**arrays(), name: anything(INPUTS[name])[:, :0]}, REQUIRED, rule_engine(), decoupled=True)  # empty is as good as nothing


@pytest.mark.parametrize(("name", "value"), [("beam_width", 2), ("num_return_sequences", 3), ("runtime_top_p_decay", 0.5)])
def test_what_is_served_with_one_value_is_refused_with_another(name: str, value: float) -> None:
    other, one = ({name: [[number]]} for number in (value, 1))
    with pytest.raises(InvalidRequestError, match=rf"^{name} is {value:g}; this target serves 1 only$"):
        tensors.read(arrays(**other), REQUIRED, rule_engine(), decoupled=True)
    tensors.read(arrays(**one), REQUIRED, rule_engine(), decoupled=True)


@pytest.mark.parametrize("name", sorted(tensors.WITHOUT_MEANING))
def test_what_is_without_meaning_is_taken(name: str) -> None:
    given = {**arrays(), name: anything(INPUTS[name])}
    assert tensors.read(given, REQUIRED, rule_engine(), decoupled=True).request == read(REQUIRED).request


def test_words_are_read_from_nvidias_layout() -> None:
    assert read(stop_words_list=[[[5, 6, 7, 0], [2, 3, -1, -1]]]).request.stop_words == ((5, 6), (7,))
    assert read(bad_words_list=np.zeros((1, 2, 0))).request.sampling.bad_words == ()


@pytest.mark.parametrize("ends", [[2, 2], [3, 1], [0, 1], [1, 5]])
def test_words_that_end_nowhere_are_refused(ends: list[int]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^stop_words_list says that a word ends at"):
        read(stop_words_list=[[[5, 6], ends]])


def test_padding_is_cut_off_by_input_lengths() -> None:
    assert read(input_ids=[[3, 1, 4, 0, 0]]).request.prompt_ids == [3, 1, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input_lengths": [[4]]}, "input_lengths is 4, but input_ids has 3 values"),
        ({"input_lengths": [[-1]]}, "input_lengths is -1"),
        ({"input_lengths": [[0]]}, "input_ids is empty"),
        ({"request_output_len": [[-1]]}, "request_output_len is -1"),
        ({"request_output_len": [[2**31 - 1]]}, "request_output_len of 2147483647 exceed"),
        ({"temperature": [[-1]]}, "temperature is -1"),
    ],
)
def test_impossible_requests_are_refused_by_tensor(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        read(**values)


def test_streaming_needs_a_decoupled_model() -> None:
    with pytest.raises(InvalidRequestError, match="doit decoupled=yes model_repository"):
        read(decoupled=False, streaming=[[True]])
    assert read(streaming=[[True]]).streaming


@pytest.mark.parametrize("outputs", [[], ["output_ids"], ["sequence_length", "generation_logits"]])
def test_the_two_outputs_that_nvidias_backend_needs_must_be_named(outputs: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="must be among the requested outputs"):
        read(outputs)


def test_a_tag_is_one_token_with_its_logits() -> None:
    tag: dict[str, Any] = {"request_output_len": [[1]], "return_generation_logits": [[True]]}
    assert read(**tag).urgent
    assert not read(**{**tag, "request_output_len": [[2]]}).urgent
    assert not read(request_output_len=[[1]]).urgent
    assert not read(REQUIRED, **tag).urgent  # the logits are asked for, but no output is named that would hold them
    assert not read(**tag, return_context_logits=[[True]]).urgent


def test_a_response_has_only_what_was_asked_for() -> None:
    assert written(read()).keys() == set(REQUIRED)
    assert written(read(REQUIRED, return_log_probs=[[True]], return_perf_metrics=[[True]])).keys() == set(REQUIRED)
    named = [*REQUIRED, "cum_log_probs", "arrival_time_ns"]
    assert written(read(named, return_log_probs=[[True]], return_perf_metrics=[[True]])).keys() == set(named)


def test_the_whole_response_has_the_names_order_types_and_shapes_of_the_contract() -> None:
    found = written(read(**FLAGS))
    never = {"batch_index", "sequence_index", "context_phase_params"}
    # The order of NVIDIA's backend, in which the logits come before the probabilities.
    assert list(found)[:6] == [*REQUIRED, "context_logits", "generation_logits", "output_log_probs", "cum_log_probs"]
    assert found.keys() == OUTPUTS.keys() - never
    for name, array in found.items():
        assert array.dtype == DTYPES[OUTPUTS[name].dtype]
        dims = OUTPUTS[name].dims
        assert array.ndim == 1 + len(dims)
        assert all(size in (-1, n) for size, n in zip(dims, array.shape[1:], strict=True))
    assert found["output_ids"].tolist() == [[[3, 1, 4, 5, 6]]]
    assert found["sequence_length"].tolist() == [[5]]
    assert found["context_logits"].shape == (1, 3, VOCAB_SIZE)
    assert found["generation_logits"].shape == (1, 1, 2, VOCAB_SIZE)
    assert found["output_log_probs"].shape == (1, 1, 2)
    assert found["cum_log_probs"][0, 0] == pytest.approx(found["output_log_probs"].sum())
    assert (found["num_input_tokens"].tolist(), found["num_output_tokens"].tolist()) == ([[3]], [[2]])


def test_blocks_are_counted_as_they_are() -> None:
    def blocks(tokens_per_block: int) -> list[int]:
        found = written(read(return_perf_metrics=[[True]]), tokens_per_block=tokens_per_block)
        return [int(found[f"kv_cache_{name}_blocks"][0, 0]) for name in ("reused", "alloc_new", "alloc_total")]

    # Of 5 tokens 2 were in the cache.
    assert blocks(1) == [2, 3, 5]
    assert blocks(2) == [1, 2, 3]
    assert blocks(4) == [0, 2, 2]


def test_times_are_in_order() -> None:
    found = written(read(return_perf_metrics=[[True]]))
    times = [int(found[f"{name}_time_ns"][0, 0]) for name in ("arrival", "first_scheduled", "first_token", "last_token")]
    assert times == sorted(times)
    assert times[2] < times[3]


def test_streamed_responses_have_the_new_tokens_only() -> None:
    found = written(read(**FLAGS, streaming=[[True]]), n_sent=1)
    assert found["output_ids"].tolist() == [[[6]]]
    assert found["sequence_length"].tolist() == [[1]]
    assert found["generation_logits"].shape == (1, 1, 1, VOCAB_SIZE)
    assert found["output_log_probs"].shape == (1, 1, 1)
    assert "context_logits" not in found


def test_an_answer_without_tokens_has_empty_tensors() -> None:
    found = written(read(**FLAGS, end_id=[[5]], exclude_input_in_output=[[True]]))
    assert found["output_ids"].shape == (1, 1, 0)
    assert found["generation_logits"].shape == (1, 1, 0, VOCAB_SIZE)
    assert found["output_log_probs"].shape == (1, 1, 0)


def test_any_id_comes_back_as_it_was_sent() -> None:
    ids = [2**31 - 1, -(2**31), 3, 7]
    found = written(read(input_ids=[ids], input_lengths=[[4]]))
    assert found["output_ids"][0, 0].tolist() == [*ids, 8, 9]
