"""What `build.convert` writes, number by number, against an independent reading of both formats."""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from build.awq_config import read_config
from build.convert import convert
from build.trtllm_checkpoint import tensor_table
from build.trtllm_layout import AWQ, LAYOUTS, Layout
from tests.support import awq_checkpoints, dequantize
from tests.support.awq_checkpoints import Phi3Size

LINEARS = {
    "attention.qkv": "self_attn.qkv_proj",
    "attention.dense": "self_attn.o_proj",
    "mlp.fc": "mlp.gate_up_proj",
    "mlp.proj": "mlp.down_proj",
}


class Pair(NamedTuple):
    awq_dir: Path
    out_dir: Path
    awq: dict[str, torch.Tensor]
    out: dict[str, torch.Tensor]


def converted(folder: Path, size: Phi3Size, seed: int = 0, layout: Layout = AWQ) -> Pair:
    awq_dir = awq_checkpoints.write_random(folder / "awq", size, seed)
    convert(awq_dir, folder / "trtllm", layout=layout)
    return Pair(awq_dir, folder / "trtllm", dequantize.load_awq(awq_dir), load_file(folder / "trtllm" / "rank0.safetensors"))


@pytest.fixture(scope="module", params=LAYOUTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return converted(tmp_path_factory.mktemp("pair"), Phi3Size(), layout=LAYOUTS[request.param])


def assert_same_linear(pair: Pair, layer: int, trtllm_name: str) -> None:
    """q and scales bit for bit, zero within one unit in the last place, weights within 0.005 of a quantization step."""
    awq = dequantize.awq_linear(pair.awq, f"model.layers.{layer}.{LINEARS[trtllm_name]}")
    out = dequantize.trtllm_linear(pair.out, f"transformer.layers.{layer}.{trtllm_name}")
    if trtllm_name == "mlp.fc":
        half = awq.q.shape[0] // 2
        awq = dequantize.Linear(*(torch.cat((part[half:], part[:half])) for part in awq))
    assert torch.equal(out.q + 8, awq.q)
    assert torch.equal(out.scales.view(torch.int16), awq.scales.contiguous().view(torch.int16))
    exact = (8.0 - awq.zeros.double()) * awq.scales.double()
    ulp = torch.from_numpy(np.spacing(np.abs(exact.numpy()).astype(np.float16))).double()
    assert ((out.zeros.double() - exact).abs() <= ulp).all()
    step = awq.scales.double().repeat_interleave(128, dim=1)
    meant = (awq.q - awq.zeros.repeat_interleave(128, dim=1)) * step
    got = out.q * step + out.zeros.double().repeat_interleave(128, dim=1)
    normal = step > 1e-4  # below, fp16 itself gets coarse: scales are subnormal
    assert ((got - meant).abs() <= 0.005 * step)[normal].all()


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", LINEARS)
def test_linear_layers_mean_the_same(pair: Pair, layer: int, name: str) -> None:
    assert_same_linear(pair, layer, name)


def test_whole_state_dicts_agree(pair: Pair) -> None:
    awq, out = dequantize.from_awq(pair.awq_dir), dequantize.from_trtllm(pair.out_dir)
    assert awq.keys() == out.keys()
    for name, weight in awq.items():
        torch.testing.assert_close(out[name], weight, rtol=0, atol=0.0005)  # scales go up to 0.1


def test_unquantized_tensors_are_copied_bit_for_bit(pair: Pair) -> None:
    names = {
        "transformer.vocab_embedding.weight": "model.embed_tokens.weight",
        "transformer.layers.1.input_layernorm.weight": "model.layers.1.input_layernorm.weight",
        "transformer.layers.1.post_layernorm.weight": "model.layers.1.post_attention_layernorm.weight",
        "transformer.ln_f.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }
    for trtllm_name, hf_name in names.items():
        assert torch.equal(pair.out[trtllm_name].view(torch.int16), pair.awq[hf_name].view(torch.int16))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gate_and_up_change_places(tmp_path: Path, layout: str) -> None:
    size = Phi3Size()
    tensors = awq_checkpoints.random_tensors(size)
    gate_then_up = np.repeat(np.array([[3, 12]], dtype=np.uint8), size.intermediate, axis=1)
    module = "model.layers.0.mlp.gate_up_proj"
    tensors[f"{module}.qweight"] = awq_checkpoints.pack(np.repeat(gate_then_up, size.hidden, axis=0))
    tensors[f"{module}.qzeros"] = awq_checkpoints.pack(gate_then_up)
    tensors[f"{module}.scales"] = gate_then_up.astype(np.float16)
    convert(awq_checkpoints.write(tmp_path / "awq", awq_checkpoints.hf_config(size), tensors), tmp_path / "out", layout=LAYOUTS[layout])
    fc = dequantize.trtllm_linear(load_file(tmp_path / "out" / "rank0.safetensors"), "transformer.layers.0.mlp.fc")
    up, gate = slice(0, size.intermediate), slice(size.intermediate, None)
    assert set(fc.q[up].flatten().tolist()) == {12 - 8}
    assert set(fc.q[gate].flatten().tolist()) == {3 - 8}
    assert set(fc.scales[up].flatten().tolist()) == {12.0}
    assert set(fc.scales[gate].flatten().tolist()) == {3.0}
    assert set(fc.zeros[up].flatten().tolist()) == {(8 - 12) * 12.0}
    assert set(fc.zeros[gate].flatten().tolist()) == {(8 - 3) * 3.0}


def test_grouped_query_attention_keeps_the_rows_of_q_k_v(tmp_path: Path) -> None:
    pair = converted(tmp_path, Phi3Size(heads=4, kv_heads=2))
    assert pair.out["transformer.layers.0.attention.qkv.weight"].shape == ((128 + 2 * 64) // 2, 128)
    assert_same_linear(pair, 0, "attention.qkv")
    config = json.loads((pair.out_dir / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_size"]) == (4, 2, 32)


@st.composite
def sizes(draw: st.DrawFn) -> Phi3Size:
    hidden = 128 * draw(st.integers(1, 3))
    heads = draw(st.sampled_from([1, 2, 4, 8]))
    divisors = [n for n in range(1, heads + 1) if heads % n == 0 and (2 * hidden // heads * n) % 128 == 0]
    return Phi3Size(
        vocab=draw(st.integers(1, 70)),
        hidden=hidden,
        intermediate=128 * draw(st.integers(1, 4)),
        layers=draw(st.integers(1, 2)),
        heads=heads,
        kv_heads=draw(st.sampled_from(divisors)),
    )


@settings(max_examples=20, deadline=None)
@given(size=sizes(), seed=st.integers(0, 1000), layout=st.sampled_from(list(LAYOUTS.values())))
def test_any_size_means_the_same(size: Phi3Size, seed: int, layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = converted(Path(folder), size, seed, layout)
        expected = tensor_table(read_config(pair.awq_dir), layout)
        assert {name: tuple(tensor.shape) for name, tensor in pair.out.items()} == {name: spec.shape for name, spec in expected.items()}
        for layer in range(size.layers):
            for name in LINEARS:
                assert_same_linear(pair, layer, name)
