"""Config.pbtxt against the tables: what differs is told by name, and NVIDIA's templates can be read as they are."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from build import ROOT
from build.contract import MODELS, Contract, Tensor
from build.errors import ServerError
from build.verify_contract import differences, read_template

NVIDIAS = """
name: "postprocessing"
backend: "python"
max_batch_size: ${triton_max_batch_size}
model_transaction_policy { decoupled: ${decoupled_mode} }
dynamic_batching {
  max_queue_delay_microseconds: ${max_queue_delay_microseconds}
  default_queue_policy: { max_queue_size: ${max_queue_size} }
}
input [
  { name: "TOKENS_BATCH" data_type: TYPE_INT32 dims: [ -1, -1 ] },
  { name: "SEQUENCE_LENGTH" data_type: %s dims: [ -1 ] }
]
output [ { name: "OUTPUT" data_type: TYPE_STRING dims: [ -1 ] } ]
parameters { key: "tokenizer_dir" value: { string_value: "${tokenizer_dir}" } }
instance_group [ { count: ${postprocessing_instance_count} kind: KIND_CPU } ]
"""


def with_input(contract: Contract, name: str, tensor: Tensor) -> Contract:
    return replace(contract, inputs={**contract.inputs, name: tensor})


def without(contract: Contract, name: str) -> Contract:
    return Contract(*({key: value for key, value in side.items() if key != name} for side in (contract.inputs, contract.outputs)))


@pytest.mark.parametrize("target", ["python", "trtllm"])
def test_our_own_templates_have_every_tensor_of_the_table(target: str) -> None:
    text = (ROOT / "model_repository" / "tensorrt_llm" / target / "config.pbtxt").read_text(encoding="utf-8")
    assert differences("tensorrt_llm", read_template(text.replace("${warmup}", "").replace("${parameters}", ""))) == []


def test_an_unfilled_template_of_nvidias_form_can_be_read() -> None:
    assert differences("postprocessing", read_template(NVIDIAS % "TYPE_INT32")) == []


def test_a_type_that_is_left_open_is_ours_for_logits_and_unknown_otherwise() -> None:
    for text, dtype in (("${logits_datatype}", "FP32"), ("${encoder_input_features_data_type}", "FP16"), ("${other}", "INVALID")):
        assert read_template(NVIDIAS % text).inputs["SEQUENCE_LENGTH"].dtype == dtype


CHANGES: dict[str, tuple[Callable[[Contract], Contract], str]] = {
    "type": (
        lambda c: with_input(c, "seed", Tensor("INT64", (1,), True)),
        "input seed is INT64 [1] optional, the table says UINT64 [1] optional",
    ),
    "dims": (
        lambda c: with_input(c, "seed", Tensor("UINT64", (-1,), True)),
        "input seed is UINT64 [-1] optional, the table says UINT64 [1]",
    ),
    "optional": (lambda c: with_input(c, "seed", Tensor("UINT64", (1,))), "input seed is UINT64 [1], the table says UINT64 [1] optional"),
    "a new one": (
        lambda c: with_input(c, "random_seed", Tensor("UINT64", (1,), True)),
        "input random_seed is UINT64 [1] optional, the table has none",
    ),
    "no input": (lambda c: without(c, "seed"), "input seed is missing, the table says UINT64 [1] optional"),
    "no output": (lambda c: without(c, "sequence_length"), "output sequence_length is missing, the table says INT32 [-1]"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("model", ["tensorrt_llm", "ensemble"])
def test_every_kind_of_difference_is_told_with_both_sides(change: str, model: str) -> None:
    alter, words = CHANGES[change]
    if (model, change) == ("ensemble", "no output"):
        alter, words = (lambda c: without(c, "text_output")), "output text_output is missing, the table says STRING [-1]"
    (line,) = differences(model, alter(MODELS[model]))
    assert line.startswith(f"{model} {words}")


def test_what_is_no_model_config_is_refused() -> None:
    with pytest.raises(ServerError, match=r"is not Triton's ModelConfig .*is this the image that presets\.toml names"):
        read_template("<html>not found</html>")
