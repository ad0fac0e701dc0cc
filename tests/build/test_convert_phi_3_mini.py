"""Phi-3-mini as `build.convert` would write it: config.json field by field, every tensor by name, shape and dtype."""

import json
from pathlib import Path
from typing import Any

from build.awq_config import read_config
from build.trtllm_checkpoint import config_json, tensor_table
from build.trtllm_layout import AWQ, GPTQ

# As published with microsoft/Phi-3-mini-4k-instruct, plus what AutoAWQ adds.
PHI_3_MINI: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 32000,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": False,
    "attention_bias": False,
    "vocab_size": 32064,
    "quantization_config": {
        "bits": 4,
        "group_size": 128,
        "modules_to_not_convert": None,
        "quant_method": "awq",
        "version": "gemm",
        "zero_point": True,
    },
}


def test_table_of_phi_3_mini(tmp_path: Path) -> None:
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "transformer.vocab_embedding.weight": ((32064, 3072), "F16"),
        "transformer.ln_f.weight": ((3072,), "F16"),
        "lm_head.weight": ((32064, 3072), "F16"),
    }
    for layer in range(32):
        expected |= {
            f"transformer.layers.{layer}.input_layernorm.weight": ((3072,), "F16"),
            f"transformer.layers.{layer}.attention.qkv.weight": ((4608, 3072), "I8"),
            f"transformer.layers.{layer}.attention.qkv.weights_scaling_factor": ((9216, 24), "F16"),
            f"transformer.layers.{layer}.attention.qkv.zero": ((24, 9216), "F16"),
            f"transformer.layers.{layer}.attention.dense.weight": ((1536, 3072), "I8"),
            f"transformer.layers.{layer}.attention.dense.weights_scaling_factor": ((3072, 24), "F16"),
            f"transformer.layers.{layer}.attention.dense.zero": ((24, 3072), "F16"),
            f"transformer.layers.{layer}.post_layernorm.weight": ((3072,), "F16"),
            f"transformer.layers.{layer}.mlp.fc.weight": ((8192, 3072), "I8"),
            f"transformer.layers.{layer}.mlp.fc.weights_scaling_factor": ((16384, 24), "F16"),
            f"transformer.layers.{layer}.mlp.fc.zero": ((24, 16384), "F16"),
            f"transformer.layers.{layer}.mlp.proj.weight": ((1536, 8192), "I8"),
            f"transformer.layers.{layer}.mlp.proj.weights_scaling_factor": ((3072, 64), "F16"),
            f"transformer.layers.{layer}.mlp.proj.zero": ((64, 3072), "F16"),
        }
    (tmp_path / "config.json").write_text(json.dumps(PHI_3_MINI))
    table = tensor_table(read_config(tmp_path), AWQ)
    assert {name: (spec.shape, spec.dtype) for name, spec in table.items()} == expected


def test_table_of_phi_3_mini_in_the_order_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PHI_3_MINI))
    config = read_config(tmp_path)
    awq, gptq = tensor_table(config, AWQ), tensor_table(config, GPTQ)
    assert list(gptq) == list(awq)
    linears = {
        "attention.qkv": ((3072, 2304), (24, 9216)),
        "attention.dense": ((3072, 768), (24, 3072)),
        "mlp.fc": ((3072, 4096), (24, 16384)),
        "mlp.proj": ((8192, 768), (64, 3072)),
    }
    others = dict(gptq)
    for layer in range(32):
        for module, (weight, per_group) in linears.items():
            name = f"transformer.layers.{layer}.{module}"
            expected = {"weight": weight, "weights_scaling_factor": per_group, "zero": per_group}
            for parameter, shape in expected.items():
                spec = others.pop(f"{name}.{parameter}")
                assert (spec.shape, spec.dtype) == (shape, "F16")
    assert others == {name: awq[name] for name in others}
    assert sum(spec.size_bytes for spec in gptq.values()) == sum(spec.size_bytes for spec in awq.values())


def test_config_of_phi_3_mini(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PHI_3_MINI))
    assert config_json(read_config(tmp_path), AWQ) == {
        "architecture": "Phi3ForCausalLM",
        "dtype": "float16",
        "logits_dtype": "float32",
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_size": 96,
        "max_position_embeddings": 4096,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": 10000.0,
        "rotary_scaling": None,
        "rotary_pct": 1.0,
        "rotary_embedding_dim": 96,
        "hidden_act": "swiglu",
        "norm_epsilon": 1e-5,
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
            "quant_algo": "W4A16_AWQ",
            "kv_cache_quant_algo": None,
            "group_size": 128,
            "smoothquant_val": 0.5,
            "clamp_val": None,
            "use_meta_recipe": False,
            "has_zero_point": True,
            "pre_quant_scale": False,
            "exclude_modules": ["*lm_head"],
        },
    }


def test_config_differs_in_the_name_of_the_algorithm_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PHI_3_MINI))
    awq, gptq = (config_json(read_config(tmp_path), layout) for layout in (AWQ, GPTQ))
    assert isinstance(awq["quantization"], dict)
    assert gptq == awq | {"quantization": awq["quantization"] | {"quant_algo": "W4A16_GPTQ"}}
