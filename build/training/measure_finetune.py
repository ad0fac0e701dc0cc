"""What finetuning asks of a GPU at Phi-3-mini's size: `python -m build.training.measure_finetune [--batch-size N ...] [--memory-gib N]`.

Memory and time do not depend on what the weights are, so they are random here; the steps are those of `finetune`. The tokenizer is the
embedded model's: Phi-3's own cuts Vietnamese into more tokens, so look at the tokens of a pass rather than at its dialogues. One JSON
object a line.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from transformers import Phi3Config, Phi3ForCausalLM

from build import manifest, settings
from build.model_size import PHI_3_MINI
from build.settings import Finetuning
from build.training import network, packing
from build.training.batches import Batches
from build.training.dialogues import Corpus
from build.training.learner import Learner
from one_pass import NO_LIMITS, CodeTable, Prompt, Task, TextCodec

UNTIMED_STEPS = 4
"""The first passes of a length are slow: the GPU chooses how to compute them."""
PREDICTIONS = 256


def main() -> None:
    """Measure for each batch size; a limit on memory stands for a smaller card."""
    parser = argparse.ArgumentParser(description="Measure finetuning at Phi-3-mini's size with random weights.")
    parser.add_argument("--batch-size", type=int, nargs="+", help="dialogues in a pass; default: the preset's")
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--memory-gib", type=float, help="fail where a card with so much free memory would")
    given = parser.parse_args()
    if given.memory_gib is not None:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(given.memory_gib * 2**30 / whole)
    plan = settings.finetuning(settings.model("phi-3-mini"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    about = {"device": torch.cuda.get_device_name() if device == "cuda" else "CPU", "memory_limit_gib": given.memory_gib}
    print(json.dumps({**about, **manifest.versions("torch", "transformers", "peft")}), flush=True)
    for figures in measure(asdict(PHI_3_MINI), plan, given.batch_size or [plan.batch_size], given.steps, device):
        print(json.dumps(figures), flush=True)


def measure(shape: dict[str, int], plan: Finetuning, batch_sizes: list[int], steps: int, device: str) -> Iterator[dict[str, Any]]:
    """Train a network of that shape for a few steps, and ask it something, with each batch size in turn."""
    embedded = settings.model("pika-tiny")
    task, codec = Task.load(embedded.task_file), TextCodec.load(embedded.folder / "hf" / "tokenizer.json")
    prompt, codes = Prompt(task, codec, settings.target("cpu").tokens_per_block, NO_LIMITS), CodeTable(task, codec)
    corpus, rng = Corpus(task.label_names), random.Random(1)
    asked = [corpus.sample(rng, "validation", noisy=False) for _ in range(PREDICTIONS)]
    learner = Learner(_network(shape, device), plan, prompt.prefix_ids, device)
    trained = sum(parameter.numel() for parameter in learner.trained.values())
    for batch_size in batch_sizes:
        batches = Batches(corpus, prompt, codes, shape["vocab_size"], batch_size)
        stream = batches.stream(batch_size)
        taught = [[next(stream) for _ in range(plan.passes_per_step)] for _ in range(UNTIMED_STEPS + steps)]
        for number in range(UNTIMED_STEPS):
            learner.step(number + 1, taught[number])
        _reset_peak(device)
        started, tokens = _now(device), 0
        for number in range(UNTIMED_STEPS, UNTIMED_STEPS + steps):
            tokens += learner.step(number + 1, taught[number]).tokens
        seconds, memory = _now(device) - started, _peak_bytes(device)
        packing.predict(learner.model, batches, prompt, codes, asked, device)
        started = _now(device)
        packing.predict(learner.model, batches, prompt, codes, asked, device)
        yield {
            "weights_trained": trained,
            "dialogues_per_pass": batch_size,
            "passes_per_step": plan.passes_per_step,
            "prefix_tokens": len(prompt.prefix_ids),
            "tokens_per_pass": round(tokens / steps / plan.passes_per_step),
            "s_per_step": round(seconds / steps, 3),
            "tokens_per_s": round(tokens / seconds),
            "predictions_per_s": round(PREDICTIONS / (_now(device) - started), 1),
            **memory,
        }


def _network(shape: dict[str, int], device: str) -> Phi3ForCausalLM:
    fields = network.config_fields(shape["vocab_size"], end_of_text_id=0, bos_id=1) | shape | {"max_position_embeddings": 4096}
    config = Phi3Config(**fields)
    config._attn_implementation = "sdpa"
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return Phi3ForCausalLM(config)
    finally:
        torch.set_default_dtype(usual)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_bytes(device: str) -> dict[str, int]:
    if device != "cuda":
        return {}
    return {"peak_allocated_bytes": torch.cuda.max_memory_allocated(), "peak_reserved_bytes": torch.cuda.max_memory_reserved()}


if __name__ == "__main__":
    main()
