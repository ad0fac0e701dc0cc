"""The measurement of finetuning runs finetuning's own steps, at any shape."""

from dataclasses import replace

from build.training import measure_finetune
from tests.training.small_models import LIKE_PHI_3, PLAN


def test_every_batch_size_gets_its_figures() -> None:
    shape = {**LIKE_PHI_3, "vocab_size": 5000}
    few, many = measure_finetune.measure(shape, replace(PLAN, lora_rank=4), [2, 6], steps=1, device="cpu")
    assert few["weights_trained"] == 2 * 4 * ((128 + 384) + (128 + 128) + (128 + 512) + (256 + 128))
    assert (few["dialogues_per_pass"], many["dialogues_per_pass"]) == (2, 6)
    assert few["prefix_tokens"] < few["tokens_per_pass"] < many["tokens_per_pass"]
    assert min(figures[name] for figures in (few, many) for name in ("s_per_step", "tokens_per_s", "predictions_per_s")) > 0
