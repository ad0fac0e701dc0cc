"""Teach a model to answer in codes: `python -m build.training.finetune MODEL [--data FILE] [--steps N]`, or `doit model=MODEL finetune`.

Corpus, noise, prompt and codes are those of the embedded model's own training. Small models are trained as a whole, large ones through an
adapter that is merged into the weights at the end; which, and how long, is said in presets.toml. What is written is a checkpoint that the
pipeline takes on from, with the weights that did best on the validation split.

An interrupted run goes on where it last saved its state (`tuning_run`), and a finished one is not repeated.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from build import ROOT, manifest, settings
from build.errors import PipelineError
from build.settings import Model, Target
from build.training import checkpoint, labelled_file, tuning_run
from build.training.batches import Batches
from build.training.exam import Exam
from build.training.learner import Learner, load
from build.training.mixture import Mixture
from build.training.progress import peak_memory_bytes
from build.training.train import corpus_hash
from one_pass import NO_LIMITS, CodeTable, Prompt, Task, TaskError, TextCodec

STATE = "finetune.state"
TOOLS = ("torch", "transformers", "peft", "tokenizers")


def main() -> None:
    """Finetune the preset that is named on the command line."""
    parser = argparse.ArgumentParser(description="Teach a model to answer in codes.")
    parser.add_argument("model", help="a model of presets.toml whose files have been downloaded")
    parser.add_argument("--target", default="cpu", help="a target of presets.toml: the prefix is padded to its KV-cache blocks")
    parser.add_argument("--data", type=Path, help="own labelled dialogues to mix in, as JSON lines")
    parser.add_argument("--steps", help="instead of the number in presets.toml")
    given = parser.parse_args()
    try:
        steps = None if given.steps is None else settings.positive("steps", given.steps)
        finetune(settings.model(given.model), settings.target(given.target), given.data, steps)
    except (PipelineError, TaskError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from the state that was saved last")


def finetune(base: Model, target: Target, data: Path | None = None, steps: int | None = None) -> None:
    """Make the checkpoint of the preset that is tuned from `base`.

    Args:
        base: the model, whose `hf/` exists.
        target: where it will be served; only its KV-cache block size matters, because the prefix is padded to it.
        data: own labelled dialogues to mix in.
        steps: how many, if not as many as the preset says.

    Raises:
        SettingError: the preset cannot be finetuned, an unfinished training was made of other things, or the loss is no number.
        SourceError: `data` has lines that are not labelled dialogues.
        ManifestError: `hf/` is not there or damaged.
    """
    plan, tuned = settings.finetuning(base, steps), settings.tuned(base)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # batches are made in forked processes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source, final = base.folder / "hf", tuned.folder / "hf"
    hf = manifest.read(source)
    task, codec = Task.load(tuned.task_file), TextCodec.load(source / "tokenizer.json")
    prompt, codes = Prompt(task, codec, target.tokens_per_block, NO_LIMITS), CodeTable(task, codec)
    own = labelled_file.read(data, Prompt(task, codec, target.tokens_per_block)) if data else []
    corpus = Mixture(task.label_names, own, plan.own_share)
    made_of = {"hf": hf.content_hash, "task": manifest.sha256_of(tuned.task_file), "corpus": corpus_hash()}
    made_of |= {"data": manifest.sha256_of(data)} if data else {}
    recipe = {**asdict(plan), "tokens_per_block": target.tokens_per_block}
    if _is_made(final, made_of, recipe):
        print(f"{final} is made of the very same things: delete it to make it anew, or go on with `doit model={tuned.name}`", flush=True)
        return
    with manifest.new_folder(final, "finetune", made_of, recipe, manifest.versions(*TOOLS)) as draft:
        torch.manual_seed(plan.seed)
        learner = Learner(load(source, plan, device), plan, prompt.prefix_ids, device)
        batches = Batches(corpus, prompt, codes, learner.model.config.vocab_size, plan.batch_size)
        exam = Exam(corpus, plan.validation_dialogues, batches, prompt, codes, device)
        print(
            f"{base.name} on {device}: {sum(p.numel() for p in learner.trained.values()) / 1e6:.2f} M weights to train, "
            f"{plan.steps} steps of {plan.batch_size * plan.passes_per_step} dialogues behind a prefix of {len(prompt.prefix_ids)} tokens; "
            f"{corpus.own_count} own dialogues to train on, {len(corpus.held_out)} to validate on",
            flush=True,
        )
        run = tuning_run.run(learner, plan, batches, exam, tuned.folder / STATE, {**recipe, **made_of})
        checkpoint.write(source, list(hf.files), draft.path, learner.merged)
        report = {
            "tuned_from": base.name,
            "made_of": made_of,
            "settings": recipe,
            "own_dialogues": {"trained_on": corpus.own_count, "held_out": len(corpus.held_out)},
            "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
            "tools": manifest.versions(*TOOLS),
            "duration_s": round(run.duration_s),
            "tokens_per_s": round(run.tokens_per_s),
            "peak_memory_bytes": peak_memory_bytes(),
            "curve": run.curve,
            "validation": asdict(run.result),
        }
        (draft.path / checkpoint.REPORT).write_text(json.dumps(report, indent=1) + "\n")
        checkpoint.write_hashes(draft.path)
    (tuned.folder / STATE).unlink(missing_ok=True)
    print(
        f"{final}: {run.duration_s:.0f} s, {run.tokens_per_s:.0f} tokens/s, {peak_memory_bytes() / 1e9:.1f} GB of memory at most\n"
        f"before: {json.dumps(run.curve[0])}\nafter:  {json.dumps(run.result.figures)}\n"
        f"celebrating is cheapest from a probability of {run.result.threshold} on, now it is done from {task.flag_threshold} on; "
        f"to change that, write `threshold = {run.result.threshold}` under [flag] in {tuned.task_file.relative_to(ROOT)}\n"
        f"Go on with `doit model={tuned.name}`",
        flush=True,
    )


def _is_made(folder: Path, made_of: dict[str, str], recipe: dict[str, Any]) -> bool:
    if not manifest.is_valid(folder) or not (folder / checkpoint.REPORT).is_file():
        return False
    report = json.loads((folder / checkpoint.REPORT).read_text())
    return bool((report["made_of"], report["settings"]) == (made_of, recipe))


if __name__ == "__main__":
    main()
