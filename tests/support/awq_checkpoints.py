"""Random AutoAWQ checkpoints of small Phi-3 models, written in AutoAWQ's layout with numpy alone.

`random_tensors` gives every nibble, zero point and scale its own random value, so that no misplaced element goes unnoticed. Real quantized
weights are made by AutoAWQ itself, in `tests.build.test_convert_autoawq`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Tensors = dict[str, NDArray[Any]]

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
SAFETENSORS_DTYPES = {"float16": "F16", "int32": "I32"}


@dataclass(frozen=True)
class Phi3Size:
    vocab: int = 64
    hidden: int = 128
    intermediate: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Module within a layer -> (inputs, outputs)."""
        return {
            "self_attn.qkv_proj": (self.hidden, self.hidden + 2 * self.hidden // self.heads * self.kv_heads),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_up_proj": (self.hidden, 2 * self.intermediate),
            "mlp.down_proj": (self.intermediate, self.hidden),
        }

    def table(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Tensor -> (shape, numpy dtype)."""
        vocabulary, norm = ((self.vocab, self.hidden), "float16"), ((self.hidden,), "float16")
        found: dict[str, tuple[tuple[int, ...], str]] = {"model.embed_tokens.weight": vocabulary}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            for module, (k, n) in self.linears.items():
                found[f"{prefix}.{module}.qweight"] = (k, n // 8), "int32"
                found[f"{prefix}.{module}.qzeros"] = (k // 128, n // 8), "int32"
                found[f"{prefix}.{module}.scales"] = (k // 128, n), "float16"
            found[f"{prefix}.input_layernorm.weight"] = found[f"{prefix}.post_attention_layernorm.weight"] = norm
        return found | {"model.norm.weight": norm, "lm_head.weight": vocabulary}


def hf_config(size: Phi3Size) -> dict[str, Any]:
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "vocab_size": size.vocab,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "partial_rotary_factor": 1.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "torch_dtype": "float16",
        "quantization_config": {
            "quant_method": "awq",
            "bits": 4,
            "group_size": 128,
            "zero_point": True,
            "version": "gemm",
            "modules_to_not_convert": None,
        },
    }


def pack(values: NDArray[np.uint8]) -> NDArray[np.int32]:
    """uint8 [rows, N] of 0..15 -> int32 [rows, N/8], as AutoAWQ's WQLinear_GEMM does it."""
    words = np.zeros((values.shape[0], values.shape[1] // 8), dtype=np.uint32)
    for nibble, column in enumerate(ORDER):
        words |= values[:, column::8].astype(np.uint32) << np.uint32(4 * nibble)
    return words.view(np.int32)


def random_tensors(size: Phi3Size, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, (shape, dtype) in size.table().items():
        if dtype == "int32":
            tensors[name] = pack(rng.integers(0, 16, size=(shape[0], shape[1] * 8), dtype=np.uint8))
        elif name.endswith("scales"):
            tensors[name] = np.exp(rng.uniform(math.log(1e-6), math.log(0.1), size=shape)).astype(np.float16)
        else:
            tensors[name] = rng.normal(size=shape).astype(np.float16)
    return tensors


def write(folder: Path, config: Mapping[str, Any], tensors: Tensors, shards: int = 1) -> Path:
    """A checkpoint in one file, or in several with an index. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    homes: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        homes |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    return folder


def write_random(folder: Path, size: Phi3Size | None = None, seed: int = 0, shards: int = 1) -> Path:
    chosen = size or Phi3Size()
    return write(folder, hf_config(chosen), random_tensors(chosen, seed), shards)


def write_sparse(folder: Path, size: Phi3Size) -> Path:
    """A checkpoint of zeros of any size, at once: its tensors are a hole in the file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(hf_config(size)))
    header: dict[str, object] = {}
    end = 0
    for name, (shape, dtype) in size.table().items():
        start, end = end, end + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {"dtype": SAFETENSORS_DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        stream.truncate(8 + len(encoded) + end)
    return folder
