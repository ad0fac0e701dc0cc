"""What `build.convert` refuses, and with which words."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from build.convert import convert
from build.errors import CheckpointError
from tests.support import awq_checkpoints
from tests.support.awq_checkpoints import Phi3Size, Tensors

QKV = "model.layers.0.self_attn.qkv_proj"


def refused(awq_dir: Path, words: str, out_dir: Path | None = None) -> None:
    out_dir = out_dir or awq_dir.parent / "out"
    before = sorted(out_dir.parent.rglob("*"))
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        convert(awq_dir, out_dir)
    assert "\n" not in str(caught.value)
    assert [path for path in sorted(out_dir.parent.rglob("*")) if not path.name.endswith(".lock")] == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, 'architectures is ["LlamaForCausalLM"]: only Phi3ForCausalLM is converted'),
        ({"architectures": None}, "architectures is null: only Phi3ForCausalLM"),
        ({"hidden_act": "gelu"}, 'hidden_act is "gelu"'),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, "take a 4k model instead of a 128k one"),
        ({"rope_parameters": {"rope_type": "default"}}, "save the model with transformers 4"),
        ({"partial_rotary_factor": 0.75}, "partial_rotary_factor is 0.75: only rotary embeddings over the whole head"),
        ({"attention_bias": True}, "attention_bias is true: TensorRT-LLM's Phi-3 has no biases"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true: a tied checkpoint stores no lm_head.weight"),
        ({"quantization_config": None}, "has no quantization_config: this is not a quantized checkpoint"),
        ({"vocab_size": 0}, "vocab_size is 0, not a positive integer"),
        ({"vocab_size": "64"}, 'vocab_size is "64", not a positive integer'),
        ({"num_hidden_layers": None}, "num_hidden_layers is null, not a positive integer"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0, not a positive number"),
        ({"rope_theta": None}, "rope_theta is null, not a positive number"),
        ({"rope_theta": float("nan")}, "rope_theta is NaN, not a positive number"),
        ({"num_attention_heads": 3}, "hidden_size 128, 3 heads and 4 KV heads do not divide each other"),
        ({"num_key_value_heads": 3}, "4 heads and 3 KV heads do not divide each other"),
        ({"num_key_value_heads": 1}, "self_attn.qkv_proj has 192 outputs, not a multiple of 128"),
        ({"head_dim": 64}, "head_dim is 64, TensorRT-LLM's Phi-3 takes hidden_size / heads, 32"),
        ({"intermediate_size": 200}, "mlp.gate_up_proj has 400 outputs, not a multiple of 128"),
        ({"hidden_size": 192}, "self_attn.qkv_proj has 192 inputs, not a multiple of 128"),
        ({"intermediate_size": 192}, "mlp.down_proj has 192 inputs, not a multiple of 128"),
    ],
)
def test_model(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    size = Phi3Size()
    refused(awq_checkpoints.write(tmp_path / "awq", awq_checkpoints.hf_config(size) | changes, awq_checkpoints.random_tensors(size)), words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("quant_method", "gptq", 'quant_method is "gptq": quantize with AutoAWQ'),
        ("quant_method", None, "quant_method is null"),
        ("bits", 8, "bits is 8: quantize again with w_bit=4"),
        ("group_size", 64, "group_size is 64: quantize again with q_group_size=128"),
        ("group_size", -1, "group_size is -1"),
        ("zero_point", False, "zero_point is false: quantize again with zero_point=True"),
        ("version", "gemv", 'version is "gemv": other packings order the bits differently'),
        ("version", "gemv_fast", 'version is "gemv_fast"'),
        ("version", "marlin", 'version is "marlin"'),
        ("version", "exllama", 'version is "exllama"'),
        ("modules_to_not_convert", ["o_proj"], 'modules_to_not_convert is ["o_proj"]: the target has all linear layers quantized'),
    ],
)
def test_quantization(tmp_path: Path, key: str, value: object, words: str) -> None:
    size = Phi3Size(layers=1)
    config = awq_checkpoints.hf_config(size)
    config["quantization_config"][key] = value
    refused(awq_checkpoints.write(tmp_path / "awq", config, awq_checkpoints.random_tensors(size)), words)


def change(name: str, new: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: new(tensors[name])})


def cast(name: str, dtype: str) -> Callable[[Tensors], None]:
    return change(name, lambda tensor: tensor.astype(dtype))


def spoil(name: str, value: float) -> Callable[[Tensors], None]:
    def last_element(tensors: Tensors) -> None:
        tensors[name].flat[-1] = value

    return last_element


def add(name: str) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: np.zeros(384, np.float16)})


def drop(prefix: str) -> Callable[[Tensors], None]:
    def all_of_it(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return all_of_it


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop("lm_head"), "lacks lm_head.weight: copy or quantize"),
        (
            drop("model.layers.1."),
            "lacks model.layers.1.input_layernorm.weight, model.layers.1.post_attention_layernorm.weight, "
            "model.layers.1.self_attn.qkv_proj.qweight and 11 more (14 in all)",
        ),
        (add(f"{QKV}.bias"), f"has {QKV}.bias: TensorRT-LLM's Phi-3 has no biases"),
        (add("model.layers.2.x.weight"), "has model.layers.2.x.weight, which its config.json does not explain"),
        (change(f"{QKV}.qweight", lambda words: words.T.copy()), "qweight is I32 [48, 128], its config.json asks for I32 [128, 48]"),
        (change("model.norm.weight", lambda norm: norm[:64]), "norm.weight is F16 [64], its config.json asks for F16 [128]"),
        (cast(f"{QKV}.qweight", "int64"), f"{QKV}.qweight has dtype I64, the converter takes I32: AutoAWQ GEMM stores no other"),
        (cast(f"{QKV}.qzeros", "int16"), f"{QKV}.qzeros has dtype I16, the converter takes I32"),
        (cast(f"{QKV}.scales", "float32"), f"{QKV}.scales has dtype F32, the converter takes F16"),
        (cast("lm_head.weight", "float64"), "lm_head.weight has dtype F64, the converter takes F16"),
        (change("model.norm.weight", lambda _: np.full(128, 7e4, np.float32)), "norm.weight holds a value that is not finite in fp16"),
        (spoil("lm_head.weight", float("nan")), "lm_head.weight holds a value that is not finite"),
        (spoil("model.embed_tokens.weight", float("-inf")), "model.embed_tokens.weight holds a value that is not finite"),
        (spoil(f"{QKV}.scales", float("nan")), f"{QKV}.scales holds a value that is not finite, or too large"),
        (spoil(f"{QKV}.scales", 8200.0), f"{QKV}.scales holds a value that is not finite, or too large"),
    ],
)
def test_tensors(tmp_path: Path, damage: Callable[[Tensors], None], words: str) -> None:
    size = Phi3Size()
    tensors = awq_checkpoints.random_tensors(size)
    damage(tensors)
    refused(awq_checkpoints.write(tmp_path / "awq", awq_checkpoints.hf_config(size), tensors), words)


def test_bfloat16(tmp_path: Path) -> None:
    size = Phi3Size(layers=1)
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq", size)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in awq_checkpoints.random_tensors(size).items()}
    tensors["model.norm.weight"] = tensors["model.norm.weight"].bfloat16()
    save_file(tensors, awq_dir / "model.safetensors")
    refused(awq_dir, "model.norm.weight has dtype BF16, the converter takes F16: quantize again with the model loaded as torch.float16")


def test_not_a_directory(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "nothing is not a directory")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"\xff", "config.json cannot be read"),
        ("config.json", b"[]", "config.json is not a JSON object"),
        ("model.safetensors", None, "has neither model.safetensors nor model.safetensors.index.json"),
        ("model.safetensors", b"", "model.safetensors is truncated or damaged"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "model.safetensors is truncated or damaged"),
        ("model.safetensors.index.json", b"{}", "holds both model.safetensors and model.safetensors.index.json"),
    ],
)
def test_files(tmp_path: Path, file: str, content: bytes | None, words: str) -> None:
    path = awq_checkpoints.write_random(tmp_path / "awq", Phi3Size(layers=1)) / file
    path.unlink() if content is None else path.write_bytes(content)
    refused(tmp_path / "awq", words)


def test_truncated_safetensors(tmp_path: Path) -> None:
    path = awq_checkpoints.write_random(tmp_path / "awq", Phi3Size(layers=1)) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2])
    refused(tmp_path / "awq", "model.safetensors is truncated or damaged")


def test_missing_shard(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq", shards=3)
    (awq_dir / "model-00002-of-00003.safetensors").unlink()
    refused(awq_dir, "model-00002-of-00003.safetensors is missing")


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq", shards=2)
    (awq_dir / "model-00002-of-00002.safetensors").write_bytes((awq_dir / "model-00001-of-00002.safetensors").read_bytes())
    refused(awq_dir, "files of two checkpoints are mixed")


@pytest.mark.parametrize("weight_map", [None, {}, {"lm_head.weight": "../model.safetensors"}, {"lm_head.weight": 1}])
def test_index_without_files(tmp_path: Path, weight_map: object) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq", shards=2)
    (awq_dir / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(awq_dir, "has no weight_map of tensor to file beside it")


def test_target_that_is_or_holds_the_source(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "all" / "awq")
    refused(awq_dir, "would be replaced", awq_dir)
    refused(awq_dir, "would be replaced", awq_dir / ".." / "awq")
    refused(awq_dir, "would be replaced", tmp_path / "all")


@pytest.mark.parametrize("manifest", [None, '{"stage": "quantize"}', "damaged"])
def test_target_of_somebody_else(tmp_path: Path, manifest: str | None) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    other = tmp_path / "photos"
    other.mkdir()
    (other / "one.jpg").touch()
    if manifest is not None:
        (other / "manifest.json").write_text(manifest)
    refused(awq_dir, "photos is no earlier result of this stage and will not be replaced", other)


def test_target_that_is_a_file(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    (tmp_path / "out").touch()
    refused(awq_dir, "out is a file")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    refused(awq_dir, f"{tmp_path} has 0.00 GB free, the result needs 0.00 GB")
