"""Train the embedded model: `python -m build.training.train OUT_DIR [--steps N] [--seed N] ...`, or `doit train`.

Minutes on a GPU, hours on a CPU. The prefix is the same for every dialogue, so it is computed once a step and its keys and values are
shared by the batch; gradients flow through it as they would otherwise. What is written is the running average of the weights at the moment
when it did best on the validation split; neither the test split nor the hand-written evaluation file is looked at before that. The data are
the same for equal seeds; the weights also depend on the GPU's order of additions.
"""

import argparse
import copy
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import DynamicCache, Phi3ForCausalLM

from build import ROOT, manifest, settings
from build.download import HASHES
from build.training import network, tokenizer
from build.training.batches import Batch, Batches, SplittingCodec
from build.training.dialogues import Corpus
from build.training.evaluate import accuracy, best_threshold, predict
from one_pass import NO_LIMITS, CodeTable, Prompt, Task, TextCodec

WORKERS = 7
"""Part of what a seed means: each worker has a stream of its own."""
WORD_DROPOUT = 0.3
DROPOUT = 0.2
LANGUAGE_MODELLING_WEIGHT = 2.0
"""Guessing the next word of the dialogue is not the task, but it teaches what words mean: without it, held-out frames fare worse."""
WEIGHT_AVERAGE_DECAY = 0.999
VALIDATION_SEED, VALIDATION_SIZE, TEST_SEED, TEST_SIZE = 7, 2000, 8, 4000


class _Stream(IterableDataset[Batch]):
    def __init__(self, batches: Batches, seed: int) -> None:
        self._batches, self._seed = batches, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        return self._batches.stream(self._seed * 1000 + (worker.id if worker else 0))


def main() -> None:
    """Train, test, write."""
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    train(**vars(arguments))


def train(out: Path, steps: int, batch_size: int, learning_rate: float, seed: int, device: str) -> None:
    """Make a checkpoint in `out`, with `training.json` (settings, curves, test figures) and SHA256SUMS beside it."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.manual_seed(seed)
    task_file, tokens_per_block = settings.model("pika-tiny").task_file, settings.target("cpu").tokens_per_block
    task = Task.load(task_file)
    corpus = Corpus(task.label_names)
    bpe = tokenizer.train(task, corpus, seed)
    tokenizer.save(bpe, out, network.MAX_TOKENS)
    codec = TextCodec.load(out / "tokenizer.json")
    prompt, codes = Prompt(task, codec, tokens_per_block, NO_LIMITS), CodeTable(task, codec)
    end_of_text = bpe.token_to_id(tokenizer.END_OF_TEXT)
    fields = network.config_fields(codec.vocab_size, end_of_text, bpe.token_to_id("<s>"))
    model = network.build(fields, DROPOUT).to(device)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, prefix {len(prompt.prefix_ids)} tokens, {corpus.count('train')}", flush=True)
    batches = Batches(corpus, prompt, codes, codec.vocab_size, batch_size)
    splitting = Prompt(task, SplittingCodec.load(out / "tokenizer.json"), tokens_per_block, NO_LIMITS)
    stream = _Stream(Batches(corpus, splitting, codes, codec.vocab_size, batch_size), seed)
    rng = random.Random(VALIDATION_SEED)
    validation = [corpus.sample(rng, "validation", False) for _ in range(VALIDATION_SIZE)]

    def validate(model: Phi3ForCausalLM) -> dict[str, Any]:
        return accuracy(validation, predict(model, batches, prompt, codes, validation, device), task)

    curve, model = _run(model, stream, prompt.prefix_ids, steps, learning_rate, device, validate)
    network.save(model.state_dict(), fields, [end_of_text, bpe.token_to_id(tokenizer.END)], out)
    threshold = best_threshold(validation, predict(model, batches, prompt, codes, validation, device))
    tests: dict[str, Any] = {}
    for name, noisy in (("clean", False), ("noisy", True)):
        rng = random.Random(TEST_SEED)
        examples = [corpus.sample(rng, "test", noisy) for _ in range(TEST_SIZE)]
        tests[name] = accuracy(examples, predict(model, batches, prompt, codes, examples, device), task)
        print(f"test, {name}: {json.dumps(tests[name])}", flush=True)
    report = {
        "seed": seed,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "parameters": parameters,
        "task_sha256": manifest.sha256_of(task_file),
        "corpus_sha256": _corpus_hash(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "tools": manifest.versions("torch", "transformers", "tokenizers"),
        "duration_s": round(time.monotonic() - started),
        "curve": curve,
        "threshold_chosen_on_validation": threshold,
        "test": tests,
    }
    (out / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    files = sorted(path for path in out.iterdir() if path.name not in (HASHES, manifest.NAME))
    (out / HASHES).write_text("".join(f"{manifest.sha256_of(path)}  {path.name}\n" for path in files))


def _run(
    model: Phi3ForCausalLM,
    stream: _Stream,
    prefix_ids: list[int],
    steps: int,
    learning_rate: float,
    device: str,
    validate: Callable[[Phi3ForCausalLM], dict[str, Any]],
) -> tuple[list[dict[str, float]], Phi3ForCausalLM]:
    """The curve, and the averaged network that did best on the validation split."""
    loader = DataLoader(stream, batch_size=None, num_workers=WORKERS, prefetch_factor=8)
    optimizer = torch.optim.AdamW(_groups(model), lr=learning_rate, betas=(0.9, 0.98), fused=device == "cuda")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.06)
    average = copy.deepcopy(model)
    best, best_score = average, 0.0
    prefix = torch.tensor([prefix_ids], device=device)
    curve: list[dict[str, float]] = []
    started = time.monotonic()
    model.train()
    for step, batch in zip(range(1, steps + 1), loader, strict=False):
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            losses = _losses(model, prefix, batch, device)
        loss = losses["code"] + 0.5 * losses["json"] + LANGUAGE_MODELLING_WEIGHT * losses["dialogue"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        decay = min(WEIGHT_AVERAGE_DECAY, step / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % max(1, steps // 20) == 0:
            result = validate(average)
            if result["emotion"] + result["celebrate"] > best_score:
                best, best_score = copy.deepcopy(average), result["emotion"] + result["celebrate"]
            row = {"step": step, **{name: round(value.item(), 4) for name, value in losses.items()}}
            row |= {"validation_emotion": result["emotion"], "validation_celebrate": result["celebrate"]}
            curve.append(row)
            print(f"{time.monotonic() - started:6.0f} s  {json.dumps(row)}", flush=True)
    return curve, best


def _losses(model: Phi3ForCausalLM, prefix: torch.Tensor, batch: Batch, device: str) -> dict[str, torch.Tensor]:
    ids, lengths = batch.ids.to(device, non_blocking=True), batch.lengths.to(device)
    cache = DynamicCache()
    model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(ids.shape[0])
    keep = torch.rand(ids.shape, device=device) > WORD_DROPOUT
    keep |= torch.arange(ids.shape[1], device=device) >= (lengths - 2)[:, None]  # never the assistant marker
    embedded = model.model.embed_tokens(ids) * keep[..., None]
    logits = model(inputs_embeds=embedded, past_key_values=cache, use_cache=True).logits.float()
    has_code = (batch.code_positions >= 0).nonzero()[:, 0]
    at = logits[has_code.to(device), batch.code_positions[has_code].to(device)]
    return {
        "code": torch.nn.functional.cross_entropy(at, batch.code_targets[has_code].to(device)),
        "json": torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.json_targets.to(device).flatten()),
        "dialogue": torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.dialogue_targets.to(device).flatten()),
    }


def _groups(model: Phi3ForCausalLM) -> list[dict[str, Any]]:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def _corpus_hash() -> str:
    folder = ROOT / "build" / "training" / "corpus"
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".txt", ".jsonl")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
