"""Independent readers of quantized checkpoints: what weights do they mean?

Nothing here comes from the converter. The AutoAWQ side runs AutoAWQ's own unpacking code (`build.dequantize`); the TensorRT-LLM side is
written from the formula of its kernel, W[n, k] = scale * q_signed + zero, and for layout=gptq from the order in which the kernel reads
(`tests.support.mixed_gemm_kernel`). Both give a whole HF Phi3ForCausalLM state dict in float32.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from build.dequantize import AwqWeights, awq_packing
from tests.support import mixed_gemm_kernel

AWQ_MODULES = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
GROUP_SIZE = 128

_HF_NAMES = {
    "transformer.vocab_embedding": "model.embed_tokens",
    "transformer.ln_f": "model.norm",
    "transformer.layers": "model.layers",
    "attention.qkv": "self_attn.qkv_proj",
    "attention.dense": "self_attn.o_proj",
    "mlp.fc": "mlp.gate_up_proj",
    "mlp.proj": "mlp.down_proj",
    "post_layernorm": "post_attention_layernorm",
}


class Linear(NamedTuple):
    """A quantized layer with K inputs and N outputs: q is unsigned (0..15) in AutoAWQ's form, signed (-8..7) in TensorRT-LLM's."""

    q: torch.Tensor
    """int [N, K]."""
    scales: torch.Tensor
    """fp16 [N, K/128]."""
    zeros: torch.Tensor
    """[N, K/128]: 0..15 in AutoAWQ's form, the added fp16 term in TensorRT-LLM's."""


def load_awq(awq_dir: Path) -> dict[str, torch.Tensor]:
    """All tensors of an AutoAWQ checkpoint as stored."""
    index = awq_dir / "model.safetensors.index.json"
    files = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(files):
        tensors |= load_file(awq_dir / file)
    return tensors


def awq_linear(tensors: dict[str, torch.Tensor], module: str) -> Linear:
    packing = awq_packing()
    q, z = packing.reverse_awq_order(*packing.unpack_awq(tensors[f"{module}.qweight"], tensors[f"{module}.qzeros"], 4), 4)
    return Linear((q & 15).T, tensors[f"{module}.scales"].T, (z & 15).T)


def trtllm_linear(tensors: dict[str, torch.Tensor], module: str) -> Linear:
    """A layer of either layout: they are told apart by the dtype of the weights."""
    weight, scales, zeros = (tensors[f"{module}.{part}"] for part in ("weight", "weights_scaling_factor", "zero"))
    if weight.dtype == torch.float16:
        signed = mixed_gemm_kernel.read(weight.numpy().tobytes(), weight.shape[0], weight.shape[1] * 4)
        return Linear(torch.from_numpy(signed).to(torch.int16), scales.T, zeros.T)
    pairs = weight.to(torch.int16)
    q = torch.stack((pairs % 16, pairs // 16 % 16), dim=1).flatten(0, 1)  # torch's % and // round down, so both are 0..15
    return Linear(torch.where(q < 8, q, q - 16), scales, zeros.T)


def from_awq(awq_dir: Path) -> dict[str, torch.Tensor]:
    """The float32 state dict that an AutoAWQ GEMM checkpoint means."""
    weights = AwqWeights(awq_dir)
    return {f"{module}.weight": weights[module] for module in weights.modules}


def from_trtllm(trtllm_dir: Path) -> dict[str, torch.Tensor]:
    """The float32 state dict that a TensorRT-LLM checkpoint with zero points means, in HF's names and order of gate and up."""
    config: dict[str, Any] = json.loads((trtllm_dir / "config.json").read_text())
    assert config["quantization"]["quant_algo"] in ("W4A16_AWQ", "W4A16_GPTQ")
    tensors = load_file(trtllm_dir / "rank0.safetensors")
    state: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part != "weight":
            continue
        value = tensor.float()
        if f"{module}.zero" in tensors:
            q, scales, zeros = trtllm_linear(tensors, module)
            value = q * _per_input(scales) + _per_input(zeros)
        if module.endswith("mlp.fc"):
            up, gate = value.chunk(2)
            value = torch.cat((gate, up))
        state[f"{_hf_name(module)}.weight"] = value
    return state


def _per_input(per_group: torch.Tensor) -> torch.Tensor:
    return per_group.float().repeat_interleave(GROUP_SIZE, dim=1)


def _hf_name(module: str) -> str:
    for trtllm, hf in _HF_NAMES.items():
        module = module.replace(trtllm, hf)
    return module
