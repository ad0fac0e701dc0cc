"""Train the embedded model: `doit train`, or by hand `python -m build.training.train OUT_DIR [--teacher-size | --teachers DIR ...]`.

Minutes on a GPU, hours on a CPU. First teachers are trained, larger networks; then the embedded model, which begins with a part of the
first one's weights, is rounded to 4 bits while it learns, and learns from the labels and from what the teachers answer. The prefix is the
same for every dialogue, so it is computed once a step and its keys and values are shared by the batch; gradients flow through it as they
would otherwise. What is written is the running average of the weights at the moment when it did best on the validation split; neither the
test split nor the hand-written evaluation file is looked at before that. The dialogues are the same for equal seeds; the weights also
depend on how words are cut into pieces (see `batches.SplittingCodec`) and on the GPU's order of additions.
"""

import argparse
import copy
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import Phi3ForCausalLM

from build import ROOT, manifest, settings
from build.download import HASHES
from build.training import four_bits, losses, network, tokenizer
from build.training.batches import Batch, Batches, SplittingCodec
from build.training.dialogues import Corpus
from build.training.evaluate import accuracy, answer_logits, best_temperature, best_threshold, confusion, predict
from build.training.teacher import Teacher
from one_pass import NO_LIMITS, CodeTable, Prompt, Task, TextCodec

WORKERS = 7
"""Part of what a seed means: each worker has a stream of its own."""
DROPOUT, PUPIL_DROPOUT = 0.2, 0.1
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
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=256, help="an even number")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--teacher-size", action="store_true", help="train a network of network.TEACHER_SHAPE")
    parser.add_argument("--teachers", nargs="*", type=Path, default=[], metavar="DIR", help="checkpoints to learn from besides the labels")
    parser.add_argument("--shape", nargs="*", default=[], metavar="FIELD=N", help="other values for network.SHAPE, to compare sizes")
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = vars(parser.parse_args())
    size = network.TEACHER_SHAPE if arguments.pop("teacher_size") else network.SHAPE
    arguments["shape"] = size | {field: int(value) for field, value in (each.split("=") for each in arguments["shape"])}
    train(**arguments)


def train(
    out: Path, steps: int, batch_size: int, learning_rate: float, shape: dict[str, int], teachers: list[Path], seed: int, device: str
) -> None:
    """Make a checkpoint in `out`, with `training.json` (settings, curves, test figures) and SHA256SUMS beside it.

    The threshold that validation chooses is in `training.json`; `threshold.store` puts it into the prompt file.
    """
    started = time.monotonic()
    torch.set_num_threads(2)  # the workers need the other cores
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every length of batch
    out.mkdir(parents=True, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.manual_seed(seed)
    task_file, tokens_per_block = settings.model("pika-tiny").task_file, settings.target("cpu").tokens_per_block
    task = replace(Task.load(task_file), flag_threshold=0.5)  # the file's was chosen for the weights before these
    corpus = Corpus(task.label_names)
    bpe = tokenizer.train(task, corpus)
    tokenizer.save(bpe, out, network.MAX_TOKENS)
    codec = TextCodec.load(out / "tokenizer.json")
    prompt, codes = Prompt(task, codec, tokens_per_block, NO_LIMITS), CodeTable(task, codec)
    end_of_text = bpe.token_to_id(tokenizer.END_OF_TEXT)
    fields = network.config_fields(codec.vocab_size, end_of_text, bpe.token_to_id("<s>")) | shape
    teacher = Teacher(teachers, prompt.prefix_ids, out / "tokenizer.json", device) if teachers else None
    model = network.thinned(teacher.networks[0], fields, PUPIL_DROPOUT) if teacher else network.build(fields, DROPOUT)
    if teacher:
        four_bits.attach(model)
    model.to(device)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, prefix {len(prompt.prefix_ids)} tokens, {corpus.count('train')}", flush=True)
    batches = Batches(corpus, prompt, codes, codec.vocab_size, batch_size)
    splitting = Prompt(task, SplittingCodec.load(out / "tokenizer.json"), tokens_per_block, NO_LIMITS)
    stream = _Stream(Batches(corpus, splitting, codes, codec.vocab_size, batch_size), seed)
    rng = random.Random(VALIDATION_SEED)
    validation = [corpus.sample(rng, "validation", False) for _ in range(VALIDATION_SIZE)]

    def validate(model: Phi3ForCausalLM) -> dict[str, Any]:
        return accuracy(validation, predict(model, batches, prompt, codes, validation, device), task)

    curve, model = _run(model, stream, teacher, prompt.prefix_ids, steps, learning_rate, device, validate)
    if teacher:
        four_bits.settle(model)
    temperature = best_temperature(validation, answer_logits(model, batches, prompt, validation, device), codes)
    with torch.no_grad():
        model.model.norm.weight /= temperature  # divides all logits: whoever reads them need not know of it
    network.save(model.state_dict(), fields, [end_of_text, bpe.token_to_id(tokenizer.END)], out)
    threshold = best_threshold(validation, predict(model, batches, prompt, codes, validation, device))
    codes = CodeTable(replace(task, flag_threshold=threshold), codec)  # the test is made as the tagger will answer
    tests: dict[str, Any] = {}
    for name, noisy in (("clean", False), ("noisy", True)):
        rng = random.Random(TEST_SEED)
        examples = [corpus.sample(rng, "test", noisy) for _ in range(TEST_SIZE)]
        tags = predict(model, batches, prompt, codes, examples, device)
        tests[name] = accuracy(examples, tags, task)
        print(f"test, {name}: {json.dumps(tests[name])}", flush=True)
        tests[name]["confusion"] = confusion(examples, tags, task)
    report = {
        "seed": seed,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "shape": shape,
        "parameters": parameters,
        "teachers": [_origin(each) for each in teachers],
        "prefix_sha256": hashlib.sha256(json.dumps(prompt.prefix_ids).encode()).hexdigest(),
        "corpus_sha256": corpus_hash(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "tools": manifest.versions("torch", "transformers", "tokenizers"),
        "duration_s": round(time.monotonic() - started),
        "curve": curve,
        "temperature_chosen_on_validation": round(temperature, 4),
        "threshold_chosen_on_validation": threshold,
        "test": tests,
    }
    (out / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    files = sorted(path for path in out.iterdir() if path.name not in (HASHES, manifest.NAME))
    (out / HASHES).write_text("".join(f"{manifest.sha256_of(path)}  {path.name}\n" for path in files))


def _run(
    model: Phi3ForCausalLM,
    stream: _Stream,
    teacher: Teacher | None,
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
        with parametrize.cached(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            parts = losses.losses(model, prefix, batch, device, teacher)
        optimizer.zero_grad(set_to_none=True)
        losses.total(parts).backward()  # type: ignore[no-untyped-call]
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
            row = {"step": step, **{name: round(value.item(), 4) for name, value in parts.items()}}
            row |= {"validation_emotion": result["emotion"], "validation_celebrate": result["celebrate"]}
            curve.append(row)
            print(f"{time.monotonic() - started:6.0f} s  {json.dumps(row)}", flush=True)
    return curve, best


def _groups(model: Phi3ForCausalLM) -> list[dict[str, Any]]:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def _origin(teacher: Path) -> dict[str, Any]:
    told = json.loads((teacher / "training.json").read_text())
    return {name: told[name] for name in ("seed", "steps", "parameters", "corpus_sha256", "duration_s", "test")}


def corpus_hash() -> str:
    """SHA-256 over names and contents of all corpus files."""
    folder = ROOT / "build" / "training" / "corpus"
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".txt", ".jsonl")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
