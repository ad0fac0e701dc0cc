"""The config.json of an AutoAWQ checkpoint: which models and which quantizations are accepted.

Accepted is Phi-3 with plain rotary embeddings over the whole head, without biases and with its own lm_head, quantized by AutoAWQ to 4
bits in groups of 128 with zero points and GEMM packing. Everything else is refused by name. To accept more, prove first that
`build.trtllm_checkpoint` expresses it.

`sliding_window` is not looked at: TensorRT-LLM's Phi-3 ignores it, which changes nothing for prompts shorter than the window (2047 tokens
for Phi-3-mini). Grouped-query attention is translated as it is. AutoAWQ 0.2.9 itself, however, folds the scales of o_proj into the last
hidden_size rows of qkv_proj, and these are V alone only if there are as many KV heads as heads: expect little of other checkpoints.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.errors import CheckpointError

GROUP_SIZE = 128
ARCHITECTURE = "Phi3ForCausalLM"

# key, accepted values (None: may also be absent), what to do
_MODEL_RULES: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("architectures", ([ARCHITECTURE],), f"only {ARCHITECTURE} is converted, for example microsoft/Phi-3-mini-4k-instruct"),
    ("hidden_act", ("silu",), "TensorRT-LLM's swiglu applies silu, take a model that does"),
    ("rope_scaling", (None,), "only plain rotary embeddings are converted, take a 4k model instead of a 128k one"),
    ("rope_parameters", (None,), "that is how transformers 5 writes it, save the model with transformers 4"),
    ("partial_rotary_factor", (1.0, None), "only rotary embeddings over the whole head are converted, take Phi-3 instead of Phi-4-mini"),
    ("attention_bias", (False, None), "TensorRT-LLM's Phi-3 has no biases, take a model without"),
    (
        "tie_word_embeddings",
        (False, None),
        "a tied checkpoint stores no lm_head.weight, and the target needs one: untie the model (copy the embedding) before quantizing",
    ),
)
_QUANTIZATION_RULES: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("quant_method", ("awq",), "quantize with AutoAWQ"),
    ("version", ("gemm", "GEMM"), 'other packings order the bits differently, quantize again with version="GEMM"'),
    ("bits", (4,), "quantize again with w_bit=4"),
    ("group_size", (GROUP_SIZE,), f"quantize again with q_group_size={GROUP_SIZE}"),
    ("zero_point", (True,), "quantize again with zero_point=True"),
    ("modules_to_not_convert", (None, []), "the target has all linear layers quantized, quantize again without exceptions"),
)


@dataclass(frozen=True)
class Phi3Config:
    """A Phi-3 model, by the names of its HF config."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float

    @property
    def head_size(self) -> int:
        """Size of an attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def linear_sizes(self) -> dict[str, tuple[int, int]]:
        """Quantized module, by its HF name within a layer -> (in_features K, out_features N)."""
        hidden, intermediate = self.hidden_size, self.intermediate_size
        return {
            "self_attn.qkv_proj": (hidden, hidden + 2 * self.num_key_value_heads * self.head_size),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_up_proj": (hidden, 2 * intermediate),
            "mlp.down_proj": (intermediate, hidden),
        }


def read_config(folder: Path) -> Phi3Config:
    """The model of a checkpoint.

    Raises:
        CheckpointError: there is no config.json, or it describes something that is not converted.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a directory: give the folder that AutoAWQ saved the model in")
    path = folder / "config.json"
    raw = read_json(path)
    _apply(_MODEL_RULES, raw, str(path))
    quantization = raw.get("quantization_config")
    if not isinstance(quantization, dict):
        raise CheckpointError(f"{path} has no quantization_config: this is not a quantized checkpoint, quantize it first")
    _apply(_QUANTIZATION_RULES, quantization, f"{path}, quantization_config")
    heads = _positive_int(raw, "num_attention_heads", path)
    config = Phi3Config(
        vocab_size=_positive_int(raw, "vocab_size", path),
        hidden_size=_positive_int(raw, "hidden_size", path),
        intermediate_size=_positive_int(raw, "intermediate_size", path),
        num_hidden_layers=_positive_int(raw, "num_hidden_layers", path),
        num_attention_heads=heads,
        num_key_value_heads=heads if raw.get("num_key_value_heads") is None else _positive_int(raw, "num_key_value_heads", path),
        max_position_embeddings=_positive_int(raw, "max_position_embeddings", path),
        rms_norm_eps=_positive_float(raw, "rms_norm_eps", path),
        rope_theta=_positive_float(raw, "rope_theta", path),
    )
    _check_sizes(config, raw.get("head_dim"), path)
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CheckpointError: it does not exist or is something else.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: give the folder that AutoAWQ saved the model in") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy or quantize the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object: copy or quantize the checkpoint again")
    return content


def _apply(rules: tuple[tuple[str, tuple[object, ...], str], ...], values: Mapping[str, Any], where: str) -> None:
    for key, accepted, fix in rules:
        if values.get(key) not in accepted:
            raise CheckpointError(f"{where}: {key} is {json.dumps(values.get(key))}: {fix}")


def _positive_int(raw: Mapping[str, Any], key: str, path: Path) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise CheckpointError(f"{path}: {key} is {json.dumps(value)}, not a positive integer: copy or quantize the checkpoint again")
    return value


def _positive_float(raw: Mapping[str, Any], key: str, path: Path) -> float:
    value = raw.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise CheckpointError(f"{path}: {key} is {json.dumps(value)}, not a positive number: copy or quantize the checkpoint again")
    return float(value)


def _check_sizes(config: Phi3Config, head_dim: object, path: Path) -> None:
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if config.hidden_size % heads or heads % kv_heads:
        raise CheckpointError(f"{path}: hidden_size {config.hidden_size}, {heads} heads and {kv_heads} KV heads do not divide each other")
    if head_dim not in (None, config.head_size):
        raise CheckpointError(f"{path}: head_dim is {head_dim}, TensorRT-LLM's Phi-3 takes hidden_size / heads, {config.head_size}")
    for module, (k, n) in config.linear_sizes.items():
        if k % GROUP_SIZE:
            raise CheckpointError(
                f"{path}: {module} has {k} inputs, not a multiple of {GROUP_SIZE}: such a layer cannot be cut into groups"
            )
        if n % GROUP_SIZE:
            raise CheckpointError(f"{path}: {module} has {n} outputs, not a multiple of {GROUP_SIZE}: TensorRT-LLM would want it padded")
