"""TensorRT-LLM checkpoints: config.json, the names and shapes of all tensors, and the packing of a quantized layer.

Layout: TensorRT-LLM 1.0.0, unified checkpoint, Phi3ForCausalLM, quant_algo W4A16_AWQ with zero points and without pre-quant scales, one
GPU. A linear layer with K inputs and N outputs is stored as

    weight                   int8 [N/2, K]   byte [j, k]: low nibble output 2j, high nibble output 2j + 1, both signed, -8..7
    weights_scaling_factor   fp16 [N, K/128]
    zero                     fp16 [K/128, N] already in the dtype and orientation of the loaded module: the loader touches neither

and means W[n, k] = scale * q_signed + zero: the kernel adds zero. The file is the same for every GPU; `trtllm-build` permutes the weights
for the one that it runs on.

No file of this form has been loaded by TensorRT-LLM yet: the layout was read in its source, and the tests prove files against that reading
only. This, inside NVIDIA's container on a machine with the GPU, shows whether one loads:

    trtllm-build --checkpoint_dir trtllm --output_dir engine --gemm_plugin float16

Tensor parallelism is left out on purpose: TensorRT-LLM 1.0.0 splits the fused mlp.fc of this model without regard to its two halves.
"""

import numpy as np
from numpy.typing import NDArray

from build.awq_config import ARCHITECTURE, GROUP_SIZE, Phi3Config
from build.safetensors_stream import Array, TensorSpec

TRTLLM_VERSION = "1.0.0"
CONFIG = "config.json"
WEIGHTS = "rank0.safetensors"
QUANT_ALGO = "W4A16_AWQ"


def config_json(config: Phi3Config) -> dict[str, object]:
    """The content of config.json, every field written out so that no default of the loader decides anything.

    `quantization` and `mapping` become keyword arguments of their classes: a key that 1.0.0 does not know would raise TypeError there.
    `exclude_modules` must name lm_head: an empty list would make it a quantized layer, for which the file has no tensors.
    """
    return {
        "architecture": ARCHITECTURE,
        "dtype": "float16",
        "logits_dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_size": config.head_size,
        "max_position_embeddings": config.max_position_embeddings,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": config.rope_theta,
        "rotary_scaling": None,
        "rotary_pct": 1.0,
        "rotary_embedding_dim": config.head_size,
        "hidden_act": "swiglu",
        "norm_epsilon": config.rms_norm_eps,
        "qk_layernorm": False,
        "tie_word_embeddings": False,
        "use_parallel_embedding": False,
        "embedding_sharding_dim": 0,
        "mapping": {
            "world_size": 1,
            "gpus_per_node": 8,
            "cp_size": 1,
            "tp_size": 1,
            "pp_size": 1,
            "moe_tp_size": 1,
            "moe_cluster_size": 1,
            "moe_ep_size": 1,
            "attn_tp_size": 1,
            "attn_cp_size": 1,
        },
        "runtime_defaults": None,
        "quantization": {
            "quant_algo": QUANT_ALGO,
            "kv_cache_quant_algo": None,
            "group_size": GROUP_SIZE,
            "smoothquant_val": 0.5,
            "clamp_val": None,
            "use_meta_recipe": False,
            "has_zero_point": True,
            "pre_quant_scale": False,
            "exclude_modules": ["*lm_head"],
        },
    }


def tensor_table(config: Phi3Config) -> dict[str, TensorSpec]:
    """Every tensor of the file, in the file's order."""
    hidden = TensorSpec((config.hidden_size,), "F16")
    vocabulary = TensorSpec((config.vocab_size, config.hidden_size), "F16")
    sizes = config.linear_sizes
    table = {"transformer.vocab_embedding.weight": vocabulary}
    for layer in range(config.num_hidden_layers):
        prefix = f"transformer.layers.{layer}"
        table[f"{prefix}.input_layernorm.weight"] = hidden
        table |= _linear_specs(f"{prefix}.attention.qkv", *sizes["self_attn.qkv_proj"])
        table |= _linear_specs(f"{prefix}.attention.dense", *sizes["self_attn.o_proj"])
        table[f"{prefix}.post_layernorm.weight"] = hidden
        table |= _linear_specs(f"{prefix}.mlp.fc", *sizes["mlp.gate_up_proj"])
        table |= _linear_specs(f"{prefix}.mlp.proj", *sizes["mlp.down_proj"])
    return table | {"transformer.ln_f.weight": hidden, "lm_head.weight": vocabulary}


def swap_halves(columns: Array) -> Array:
    """[gate ; up], the order of HF, to [up ; gate], along the last axis: TensorRT-LLM's swiglu applies silu to the second half."""
    half = columns.shape[-1] // 2
    return np.concatenate((columns[..., half:], columns[..., :half]), axis=-1)


def pack_weight(q: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Unsigned 4-bit values, uint8 [K, N] -> signed and packed, int8 [N/2, K]."""
    signed = q ^ 8  # in four bits of two's complement, q - 8 is q with its top bit flipped
    packed = signed[:, 0::2] | (signed[:, 1::2] << 4)
    return np.ascontiguousarray(packed.T).view(np.int8)


def zero_term(z: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.float16]:
    """What the kernel adds: (8 - z) * scale, computed in fp32 and rounded once to fp16. All arrays are [K/128, N]."""
    return ((8.0 - z.astype(np.float32)) * scales.astype(np.float32)).astype(np.float16)


def _linear_specs(module: str, k: int, n: int) -> dict[str, TensorSpec]:
    return {
        f"{module}.weight": TensorSpec((n // 2, k), "I8"),
        f"{module}.weights_scaling_factor": TensorSpec((n, k // GROUP_SIZE), "F16"),
        f"{module}.zero": TensorSpec((k // GROUP_SIZE, n), "F16"),
    }
