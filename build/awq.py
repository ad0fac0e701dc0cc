"""AutoAWQ checkpoints: is this one that can be converted, and what is in it.

Layout: AutoAWQ 0.2.9, GEMM packing. A linear layer with K inputs and N outputs is stored as

    qweight  int32 [K, N/8]      eight 4-bit values a word
    qzeros   int32 [K/128, N/8]  the same packing
    scales   fp16  [K/128, N]

and means W[n, k] = (q[k, n] - z[k // 128, n]) * scales[k // 128, n], with q and z in 0..15. Nibbles 0 to 7 of a word, from its low bits
up, belong to its columns 0, 2, 4, 6, 1, 3, 5, 7. Embedding, norms and lm_head are not quantized; the smoothing factors of AWQ are folded
into the norms, so the norms of the original model would be wrong here.

Which models are accepted is said in `build.awq_config`. Another packing (gemv, marlin) is another module beside this one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build.awq_config import GROUP_SIZE, Phi3Config, read_config, read_json
from build.errors import CheckpointError
from build.safetensors_stream import Array, TensorSpec, read_blocks, read_specs, read_tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_WORD_COLUMNS = 8
_NIBBLE_OF_COLUMN = (0, 4, 1, 5, 2, 6, 3, 7)
_LARGEST_HALF = float(np.finfo(np.float16).max)
# (8 - z) * scale must fit into fp16, and |8 - z| is at most 8.
_LARGEST_SCALE = _LARGEST_HALF / 8


@dataclass(frozen=True)
class AwqLinear:
    """A quantized linear layer with K inputs and N outputs, unpacked: q uint8 [K, N], z uint8 [K/128, N], scales fp16 [K/128, N]."""

    q: NDArray[np.uint8]
    z: NDArray[np.uint8]
    scales: NDArray[np.float16]


def unpack(words: NDArray[np.int32]) -> NDArray[np.uint8]:
    """int32 [rows, N/8] in AutoAWQ's order -> uint8 [rows, N], each 0..15."""
    unsigned = words.view(np.uint32)  # the sign bit is data: a signed shift would smear it
    columns = np.empty((words.shape[0], words.shape[1] * _WORD_COLUMNS), dtype=np.uint8)
    for column, nibble in enumerate(_NIBBLE_OF_COLUMN):
        columns[:, column::_WORD_COLUMNS] = (unsigned >> np.uint32(4 * nibble)) & np.uint32(15)
    return columns


class AwqCheckpoint:
    """A checkpoint whose config, names, shapes and dtypes have been checked; tensors are read one at a time.

    Attributes:
        config: the model.
        files: the safetensors files, sorted by name.

    Raises:
        CheckpointError: when made, it is not a whole AutoAWQ GEMM checkpoint of a supported Phi-3; when read, a value cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.config: Phi3Config = read_config(folder)
        self.files = _tensor_files(folder)
        self._home: dict[str, Path] = {}
        found: dict[str, TensorSpec] = {}
        for path in self.files:
            specs = read_specs(path)
            if twice := sorted(specs.keys() & found.keys()):
                raise CheckpointError(f"{path} holds {_some(twice)} once more: files of two checkpoints are mixed in {folder}")
            found |= specs
            self._home |= dict.fromkeys(specs, path)
        _check_tensors(folder, found, expected_tensors(self.config))

    def halves(self, name: str) -> Iterator[NDArray[np.float16]]:
        """An unquantized tensor as fp16, in blocks of rows.

        F16 is copied. F32, which AutoAWQ stores if the model was loaded so, is rounded. BF16 was refused before: numpy has no such type.
        """
        for block in read_blocks(self._home[name], name):
            if not _within(block, _LARGEST_HALF):
                raise CheckpointError(f"{name} holds a value that is not finite in fp16: the quantized model is broken, quantize it again")
            yield block.astype(np.float16, copy=False)

    def linear(self, module: str) -> AwqLinear:
        """A quantized layer, such as model.layers.0.mlp.down_proj."""
        scales = self._read(f"{module}.scales")
        if not _within(scales, _LARGEST_SCALE):
            raise CheckpointError(f"{module}.scales holds a value that is not finite, or too large for fp16: quantize the model again")
        return AwqLinear(unpack(self._read(f"{module}.qweight")), unpack(self._read(f"{module}.qzeros")), scales)

    def _read(self, name: str) -> Array:
        return read_tensor(self._home[name], name)


def expected_tensors(config: Phi3Config) -> dict[str, TensorSpec]:
    """Every tensor of the checkpoint; unquantized ones as F16."""
    hidden = TensorSpec((config.hidden_size,), "F16")
    vocabulary = TensorSpec((config.vocab_size, config.hidden_size), "F16")
    table = {"model.embed_tokens.weight": vocabulary, "model.norm.weight": hidden, "lm_head.weight": vocabulary}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        table |= {f"{prefix}.input_layernorm.weight": hidden, f"{prefix}.post_attention_layernorm.weight": hidden}
        for module, (k, n) in config.linear_sizes.items():
            table[f"{prefix}.{module}.qweight"] = TensorSpec((k, n // _WORD_COLUMNS), "I32")
            table[f"{prefix}.{module}.qzeros"] = TensorSpec((k // GROUP_SIZE, n // _WORD_COLUMNS), "I32")
            table[f"{prefix}.{module}.scales"] = TensorSpec((k // GROUP_SIZE, n), "F16")
    return table


def _tensor_files(folder: Path) -> list[Path]:
    single, index = folder / SINGLE, folder / INDEX
    if single.exists() and index.exists():
        raise CheckpointError(f"{folder} holds both {SINGLE} and {INDEX}: delete the one that is left over from another checkpoint")
    if single.exists():
        return [single]
    if not index.exists():
        raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}: save the quantized model with safetensors=True")
    homes = read_json(index).get("weight_map")
    if not isinstance(homes, dict) or not homes or not all(isinstance(name, str) and Path(name).name == name for name in homes.values()):
        raise CheckpointError(f"{index} has no weight_map of tensor to file beside it: copy or quantize the checkpoint again")
    return [folder / name for name in sorted(set(homes.values()))]


def _check_tensors(folder: Path, found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec]) -> None:
    if missing := [name for name in expected if name not in found]:
        raise CheckpointError(f"{folder} lacks {_some(missing)}: copy or quantize the checkpoint again")
    surplus = sorted(found.keys() - expected.keys())
    if biases := [name for name in surplus if name.endswith("bias")]:
        raise CheckpointError(f"{folder} has {_some(biases)}: TensorRT-LLM's Phi-3 has no biases, take a model without")
    if surplus:
        raise CheckpointError(f"{folder} has {_some(surplus)}, which its config.json does not explain: files of two checkpoints are mixed")
    for name, spec in expected.items():
        actual = found[name]
        if actual.shape != spec.shape:
            raise CheckpointError(f"{name} is {actual}, its config.json asks for {spec}: config and tensors are of two checkpoints")
        quantized = name.endswith((".qweight", ".qzeros", ".scales"))
        if actual.dtype != spec.dtype and (quantized or actual.dtype != "F32"):
            fix = "AutoAWQ GEMM stores no other" if quantized else "quantize again with the model loaded as torch.float16"
            raise CheckpointError(f"{name} has dtype {actual.dtype}, the converter takes {spec.dtype}: {fix}")


def _within(values: Array, limit: float) -> bool:
    """Whether all values are finite and at most `limit` in size, without a temporary array: NaN compares false."""
    with np.errstate(invalid="ignore"):
        return bool(values.min() >= -limit and values.max() <= limit)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more ({len(names)} in all)"
