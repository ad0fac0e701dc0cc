"""A model quantized by AutoAWQ itself, converted: do the logits stay?"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers.activations
from transformers import Phi3Config, Phi3ForCausalLM

from build.convert import convert
from build.trtllm_layout import GPTQ
from tests.support import dequantize

CONFIG: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "tie_word_embeddings": False,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
IDS = torch.arange(3, 99).reshape(2, 48)


class Quantized(NamedTuple):
    awq_dir: Path
    trtllm_dir: Path
    logits: torch.Tensor
    """Of AutoAWQ's own quantized modules, computed in fp16."""


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    folder = tmp_path_factory.mktemp("autoawq")
    torch.manual_seed(0)
    Phi3ForCausalLM(Phi3Config(**CONFIG)).half().save_pretrained(folder / "hf")
    if not hasattr(transformers.activations, "PytorchGELUTanh"):
        transformers.activations.PytorchGELUTanh = transformers.activations.GELUTanh
    with warnings.catch_warnings(record=True):  # an "ignore" would not do: AutoAWQ sets a filter of its own to announce its retirement
        warnings.simplefilter("default")
        from awq import AutoAWQForCausalLM
        from awq.modules.linear import gemm

        model = AutoAWQForCausalLM.from_pretrained(
            str(folder / "hf"), device_map="cpu", safetensors=True, use_cache=False, trust_remote_code=False
        )
        model.quantize(
            tokenizer=None,
            quant_config={"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"},
            calib_data=torch.randint(3, 512, (8, 64)).tolist(),
            max_calib_samples=8,
            max_calib_seq_len=64,
            apply_clip=False,
        )
        model.save_quantized(str(folder / "awq"))
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            # A torch that is built for CUDA brings Triton's compiler, which is of no use without a GPU.
            patch.setattr(gemm, "TRITON_AVAILABLE", False)
            logits = model.model(IDS).logits.float()
    convert(folder / "awq", folder / "trtllm")
    return Quantized(folder / "awq", folder / "trtllm", logits)


def logits_of(state: dict[str, torch.Tensor]) -> torch.Tensor:
    model = Phi3ForCausalLM(Phi3Config(**CONFIG)).eval()
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        logits: torch.Tensor = model(IDS).logits
    return logits


def spread(difference: torch.Tensor, logits: torch.Tensor) -> float:
    """Root mean square of a difference of logits, in units of the logits' own standard deviation."""
    return float(difference.square().mean().sqrt() / logits.std())


def test_converted_weights_give_the_same_logits(quantized: Quantized) -> None:
    awq, trtllm = logits_of(dequantize.from_awq(quantized.awq_dir)), logits_of(dequantize.from_trtllm(quantized.trtllm_dir))
    assert spread(awq - trtllm, awq) < 0.0005
    assert torch.equal(awq.argmax(-1), trtllm.argmax(-1))


def test_the_order_of_the_kernel_changes_no_weight(quantized: Quantized, tmp_path: Path) -> None:
    convert(quantized.awq_dir, tmp_path / "gptq", layout=GPTQ)
    awq, gptq = dequantize.from_trtllm(quantized.trtllm_dir), dequantize.from_trtllm(tmp_path / "gptq")
    assert awq.keys() == gptq.keys()
    assert all(torch.equal(awq[name], gptq[name]) for name in awq)


def test_they_are_the_logits_of_autoawq(quantized: Quantized) -> None:
    trtllm = logits_of(dequantize.from_trtllm(quantized.trtllm_dir))
    assert spread(trtllm - quantized.logits, quantized.logits) < 0.01


@pytest.mark.parametrize("spoiled", ["mlp.gate_up_proj", "self_attn.qkv_proj"])
def test_a_misplaced_half_would_show(quantized: Quantized, spoiled: str) -> None:
    state = dequantize.from_trtllm(quantized.trtllm_dir)
    right = logits_of(state)
    name = f"model.layers.0.{spoiled}.weight"
    state[name] = torch.roll(state[name], state[name].shape[0] // 2, dims=0)
    assert spread(logits_of(state) - right, right) > 0.1


def test_norms_carry_the_smoothing_of_awq(quantized: Quantized) -> None:
    """They were all ones in the original model, so its norms would not do."""
    norm = dequantize.from_trtllm(quantized.trtllm_dir)["model.layers.0.input_layernorm.weight"]
    assert not torch.equal(norm, torch.ones(128))
