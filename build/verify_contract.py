"""Check `contract`: do the models that a server has, or that NVIDIA's image brings, have the tensors of `build.contract`?

A config.pbtxt is read as Triton's own ModelConfig. NVIDIA's are templates: a type that is left open there is taken to be ours, every
other placeholder becomes a number, because only tensors are looked at.
"""

import re
from collections.abc import Iterator, Mapping

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build.contract import MODELS, Contract, Tensor
from build.errors import ServerError

_OPEN_TYPES = {"logits_datatype": "TYPE_FP32", "encoder_input_features_data_type": "TYPE_FP16"}
_TYPE_FIELD = re.compile(r"(data_type\s*:\s*)\$\{(\w+)\}")
_FLAG_FIELD = re.compile(r"(decoupled\s*:\s*)\$\{\w+\}")
_PLACEHOLDER = re.compile(r"\$\{\w+\}")


def read_template(text: str) -> Contract:
    """The tensors of a config.pbtxt, filled in or not.

    Raises:
        ServerError: it is no ModelConfig.
    """
    # A type that we do not know is left invalid, and so differs from whatever the table says.
    text = _TYPE_FIELD.sub(lambda found: found[1] + _OPEN_TYPES.get(found[2], "TYPE_INVALID"), text)
    text = _PLACEHOLDER.sub("1", _FLAG_FIELD.sub(r"\1false", text))
    try:
        return declared(text_format.Parse(text, model_config_pb2.ModelConfig()))
    except text_format.ParseError as error:
        raise ServerError(f"a config.pbtxt is not Triton's ModelConfig ({error}): is this the image that presets.toml names?") from None


def declared(config: model_config_pb2.ModelConfig) -> Contract:
    """The tensors that a ModelConfig declares."""
    return Contract(
        {tensor.name: Tensor(_dtype(tensor.data_type), tuple(tensor.dims), tensor.optional) for tensor in config.input},
        {tensor.name: Tensor(_dtype(tensor.data_type), tuple(tensor.dims)) for tensor in config.output},
    )


def differences(model: str, found: Contract) -> list[str]:
    """What is other than in the table of `model`, a sentence each.

    Args:
        model: a name in `build.contract.MODELS`.
        found: the tensors of a served model or of a template.
    """
    expected = MODELS[model]
    return [
        *_differences(f"{model} input", found.inputs, expected.inputs),
        *_differences(f"{model} output", found.outputs, expected.outputs),
    ]


def _differences(side: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in found.items():
        if name not in expected:
            yield f"{side} {name} is {tensor}, the table has none of that name"
        elif tensor != expected[name]:
            yield f"{side} {name} is {tensor}, the table says {expected[name]}"
    for name, tensor in expected.items():
        if name not in found:
            yield f"{side} {name} is missing, the table says {tensor}"


def _dtype(number: int) -> str:
    name: str = model_config_pb2.DataType.Name(number)
    return name.removeprefix("TYPE_")
