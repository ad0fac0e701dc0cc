"""The two forms in which a quantized layer can lie in a TensorRT-LLM checkpoint, chosen by `layout=`.

Both mean W[n, k] = scale * q_signed + zero, where the kernel adds zero, and hold the same 4-bit values, scales and zero terms. A linear
layer with K inputs and N outputs is stored as

    awq    weight                   int8 [N/2, K]    byte [j, k]: low nibble output 2j, high nibble output 2j + 1, both signed, -8..7
           weights_scaling_factor   fp16 [N, K/128]
           zero                     fp16 [K/128, N]

    gptq   weight                   fp16 [K, N/4]    not numbers: nibbles in the order that the kernel reads, see `build.mixed_gemm`
           weights_scaling_factor   fp16 [K/128, N]
           zero                     fp16 [K/128, N]

In awq the loader transposes the scales, permutes the weights for the GPU that the engine is built on, and leaves zero alone: one file for
every GPU. In gptq it leaves everything alone, so the file is for one class of GPUs. It is the fallback, should TensorRT-LLM refuse awq.

Another layout is another `Layout`; its tensors are read back in tests/support/dequantize.py by code that shares nothing with this.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from build.awq import AwqLinear
from build.awq_config import GROUP_SIZE
from build.errors import CheckpointError, SettingError
from build.manifest import Manifest
from build.mixed_gemm import SMS, interleave
from build.safetensors_stream import Array, TensorSpec


@dataclass(frozen=True)
class Layout:
    """A form of quantized layers.

    Attributes:
        name: as in `layout=`.
        quant_algo: TensorRT-LLM's name for it.
        sms: the lowest and the highest compute capability (89 for SM 8.9) of the GPUs that can use it; None means all of them.
        specs: (K, N) -> parameter of the layer -> its shape and dtype, in the file's order.
        tensors: layer -> its parameters, in the same order.
    """

    name: str
    quant_algo: str
    sms: tuple[int, int] | None
    specs: Callable[[int, int], dict[str, TensorSpec]]
    tensors: Callable[[AwqLinear], dict[str, Array]]


def named(name: str) -> Layout:
    """The layout of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in LAYOUTS:
        raise SettingError(f"layout={name} is not known: give one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def require_gpu(made: Manifest, sm: int) -> None:
    """Refuse to build an engine for a GPU that would read the weights of a checkpoint in another order.

    Args:
        made: the manifest that `build.convert` wrote.
        sm: compute capability of the GPU, 89 for SM 8.9.

    Raises:
        CheckpointError: the checkpoint is for another class of GPUs. By its source, TensorRT-LLM would build it, and answer nonsense.
    """
    sms = made.facts.get("sms")
    if sms is not None and not sms[0] <= sm <= sms[1]:
        raise CheckpointError(
            f"the checkpoint has layout={made.settings['layout']}, for GPUs of SM {sms[0]} to {sms[1]}, and this GPU is SM {sm}: "
            f"convert again with layout={AWQ.name}, which is for every GPU"
        )


def pack_weight(q: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Unsigned 4-bit values, uint8 [K, N] -> signed and packed, int8 [N/2, K]."""
    signed = q ^ 8  # in four bits of two's complement, q - 8 is q with its top bit flipped
    packed = signed[:, 0::2] | (signed[:, 1::2] << 4)
    return np.ascontiguousarray(packed.T).view(np.int8)


def zero_term(z: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.float16]:
    """What the kernel adds: (8 - z) * scale, computed in fp32 and rounded once to fp16. All arrays are [K/128, N]."""
    return ((8.0 - z.astype(np.float32)) * scales.astype(np.float32)).astype(np.float16)


def _awq_specs(k: int, n: int) -> dict[str, TensorSpec]:
    groups = k // GROUP_SIZE
    return {
        "weight": TensorSpec((n // 2, k), "I8"),
        "weights_scaling_factor": TensorSpec((n, groups), "F16"),
        "zero": TensorSpec((groups, n), "F16"),
    }


def _awq_tensors(linear: AwqLinear) -> dict[str, Array]:
    zero = zero_term(linear.z, linear.scales)
    return {"weight": pack_weight(linear.q), "weights_scaling_factor": linear.scales.T, "zero": zero}


def _gptq_specs(k: int, n: int) -> dict[str, TensorSpec]:
    per_group = TensorSpec((k // GROUP_SIZE, n), "F16")
    return {"weight": TensorSpec((k, n // 4), "F16"), "weights_scaling_factor": per_group, "zero": per_group}


def _gptq_tensors(linear: AwqLinear) -> dict[str, Array]:
    zero = zero_term(linear.z, linear.scales)
    return {"weight": interleave(linear.q), "weights_scaling_factor": linear.scales, "zero": zero}


AWQ = Layout("awq", "W4A16_AWQ", None, _awq_specs, _awq_tensors)
GPTQ = Layout("gptq", "W4A16_GPTQ", SMS, _gptq_specs, _gptq_tensors)
LAYOUTS = {layout.name: layout for layout in (AWQ, GPTQ)}
