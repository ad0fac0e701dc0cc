"""TensorRT-LLM checkpoints: config.json, and the names, shapes and order of all tensors.

The form is that of TensorRT-LLM 1.0.0: unified checkpoint, Phi3ForCausalLM, 4-bit weights in groups of 128 with zero points and without
pre-quant scales, one GPU. How a quantized layer is packed is a matter of the layout: `build.trtllm_layout`.

No file of this form has been loaded by TensorRT-LLM yet: it was read in its source, and the tests prove files against that reading
only. `doit target=l4 build_engine`, on a machine with the GPU, shows whether one loads.

Tensor parallelism is left out on purpose: TensorRT-LLM 1.0.0 splits the fused mlp.fc of this model without regard to its two halves.
"""

import numpy as np

from build.awq_config import ARCHITECTURE, GROUP_SIZE, Phi3Config
from build.safetensors_stream import Array, TensorSpec
from build.trtllm_layout import Layout

TRTLLM_VERSION = "1.0.0"
CONFIG = "config.json"
WEIGHTS = "rank0.safetensors"


def config_json(config: Phi3Config, layout: Layout) -> dict[str, object]:
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
            "quant_algo": layout.quant_algo,
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


def tensor_table(config: Phi3Config, layout: Layout) -> dict[str, TensorSpec]:
    """Every tensor of the file, in the file's order."""
    hidden = TensorSpec((config.hidden_size,), "F16")
    vocabulary = TensorSpec((config.vocab_size, config.hidden_size), "F16")

    def linear(module: str, k: int, n: int) -> dict[str, TensorSpec]:
        return {f"{module}.{parameter}": spec for parameter, spec in layout.specs(k, n).items()}

    sizes = config.linear_sizes
    table = {"transformer.vocab_embedding.weight": vocabulary}
    for layer in range(config.num_hidden_layers):
        prefix = f"transformer.layers.{layer}"
        table[f"{prefix}.input_layernorm.weight"] = hidden
        table |= linear(f"{prefix}.attention.qkv", *sizes["self_attn.qkv_proj"])
        table |= linear(f"{prefix}.attention.dense", *sizes["self_attn.o_proj"])
        table[f"{prefix}.post_layernorm.weight"] = hidden
        table |= linear(f"{prefix}.mlp.fc", *sizes["mlp.gate_up_proj"])
        table |= linear(f"{prefix}.mlp.proj", *sizes["mlp.down_proj"])
    return table | {"transformer.ln_f.weight": hidden, "lm_head.weight": vocabulary}


def swap_halves(columns: Array) -> Array:
    """[gate ; up], the order of HF, to [up ; gate], along the last axis: TensorRT-LLM's swiglu applies silu to the second half."""
    half = columns.shape[-1] // 2
    return np.concatenate((columns[..., half:], columns[..., :half]), axis=-1)
