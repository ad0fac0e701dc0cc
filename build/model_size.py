"""How large a Phi-3 is: parameters, bytes of weights in each number format, and what an engine wants of a GPU's memory.

Arithmetic on the model's shape; the two figures that are no arithmetic are marked as assumptions. Only the standard library is used.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from build.awq_config import GROUP_SIZE
from build.settings import Gpu, Model

_HALF_BYTES, _FLOAT_BYTES = 2, 4
RUNTIME_BYTES = 1 << 30
"""Assumption, not measured: CUDA context, libraries, TensorRT's and cuBLAS' workspaces."""


@dataclass(frozen=True)
class Shape:
    """A Phi-3's sizes, under the names of its config.json."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int

    @property
    def kv_size(self) -> int:
        """Width of the keys, and of the values, of one layer."""
        return self.hidden_size // self.num_attention_heads * self.num_key_value_heads

    @property
    def linear_parameters(self) -> int:
        """Weights of what is quantized: qkv, output, gate and up, down of every layer."""
        attention = self.hidden_size * (self.hidden_size + 2 * self.kv_size) + self.hidden_size**2
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def head_parameters(self) -> int:
        """Weights of the lm_head, and as many of the embedding: never quantized."""
        return self.vocab_size * self.hidden_size

    @property
    def kv_bytes_per_token(self) -> int:
        """What a token takes in a KV cache of FP16."""
        return 2 * self.num_hidden_layers * self.kv_size * _HALF_BYTES


PHI_3_MINI = Shape(
    num_hidden_layers=32,
    hidden_size=3072,
    intermediate_size=8192,
    num_attention_heads=32,
    num_key_value_heads=32,
    vocab_size=32064,
)
_PUBLISHED = {"microsoft/Phi-3-mini-4k-instruct": PHI_3_MINI}


@dataclass(frozen=True)
class Format:
    """How the quantized layers hold their numbers and calculate."""

    name: str
    weight_bits: int
    halves_per_group: int
    """FP16 numbers beside each group of weights: scale, and zero point where there is one."""
    fp8_arithmetic: bool

    def linear_bytes(self, shape: Shape) -> float:
        """What the quantized layers take, and what one pass reads of them."""
        return shape.linear_parameters * (self.weight_bits / 8 + self.halves_per_group * _HALF_BYTES / GROUP_SIZE)

    def weight_bytes(self, shape: Shape) -> float:
        """The whole checkpoint, without norms, which are too small to count."""
        return self.linear_bytes(shape) + 2 * shape.head_parameters * _HALF_BYTES


FORMATS = {
    each.name: each
    for each in (
        Format("fp16", 16, 0, fp8_arithmetic=False),
        Format("int4_awq", 4, 2, fp8_arithmetic=False),
        Format("fp8", 8, 0, fp8_arithmetic=True),
        Format("w4a8", 4, 1, fp8_arithmetic=True),
    )
}


@dataclass(frozen=True)
class Memory:
    """What an engine wants of a GPU, part by part."""

    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float
    runtime_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.activations_bytes + self.runtime_bytes


def engine_memory(shape: Shape, format: Format, gpu: Gpu, max_num_tokens: int) -> Memory:
    """What an engine wants when it does as much at once as it was built for.

    Args:
        shape: the model.
        format: of its quantized layers.
        gpu: whose limits the engine has.
        max_num_tokens: of one pass, all requests in it together.
    """
    # Residual stream and its norm, q, k and v, gate and up, their product: more is not alive at once. Assumption, not measured.
    widths = 2 * shape.hidden_size + shape.hidden_size + 2 * shape.kv_size + 3 * shape.intermediate_size
    logits_bytes = gpu.max_batch_size * shape.vocab_size * _FLOAT_BYTES
    return Memory(
        weights_bytes=format.weight_bytes(shape),
        kv_cache_bytes=gpu.kv_cache_tokens * shape.kv_bytes_per_token,
        activations_bytes=max_num_tokens * widths * _HALF_BYTES + logits_bytes,
        runtime_bytes=RUNTIME_BYTES,
    )


def shape_of(model: Model) -> Shape | None:
    """The model's shape from the first of its checkpoints, or as published; None if neither can be had yet."""
    for name in ("hf", "awq"):
        path = model.folder / name / "config.json"
        if path.is_file():
            return read_shape(path)
    return _PUBLISHED.get(model.hub.repo) if model.hub else None


def read_shape(path: Path) -> Shape | None:
    """The shape that a config.json tells; None if it is not that of a Phi-3, which the stages refuse with the reason."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return Shape(**{each.name: int(config[each.name]) for each in fields(Shape)})
    except (ValueError, KeyError, TypeError):
        return None
