"""The steps of a finetuning, one after another, and how they go on after an interruption.

The state is saved after every validation. What a pass is taught depends on its number alone, and everything else that a step depends on is
in the state: so a run that was interrupted ends as if it had not been.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from build.errors import SettingError
from build.settings import Finetuning
from build.training import resume
from build.training.batches import Batch, Batches
from build.training.exam import Exam, Result
from build.training.learner import Learner, Step
from build.training.progress import Progress

SEEDS_APART = 1_000_000
"""More than a run has passes, so that no two seeds share one."""


@dataclass(frozen=True)
class Run:
    """A run that has come to its end, whatever interruptions there were."""

    curve: list[dict[str, Any]]
    """The validations; the first one is of the network as it came."""
    result: Result
    """Of the best weights."""
    duration_s: float
    tokens_per_s: float
    """Of the steps since the last interruption."""


class _Passes(Dataset[Batch]):
    """The batch of every pass, by its number."""

    def __init__(self, batches: Batches, seed: int) -> None:
        self._batches, self._seed = batches, seed

    def __getitem__(self, number: int) -> Batch:
        return next(self._batches.stream(self._seed * SEEDS_APART + number))


def run(learner: Learner, plan: Finetuning, batches: Batches, exam: Exam, state_file: Path, identity: resume.Identity) -> Run:
    """Take all steps that have not been taken yet, and leave the best weights in the network.

    Args:
        learner: with the weights to begin with.
        plan: how many steps, and how often to validate.
        batches: what is taught.
        exam: how weights are judged.
        state_file: where an unfinished run is kept; it is there afterwards, so that nothing is lost if the caller fails.
        identity: of what the result is made.

    Raises:
        SettingError: the state is of another run or damaged, or the loss is no number.
    """
    started = time.monotonic()
    if saved := resume.load(state_file, identity):
        learner.restore(saved.pop("learner"))
        print(f"going on after step {saved['done']} of {plan.steps}, from {state_file}", flush=True)
    else:
        saved = {"done": 0, "earlier_s": 0.0, "curve": [_row(0, [], exam.take(learner))], "best": {}, "score": -math.inf}
        print(json.dumps(saved["curve"][0]), flush=True)
    earlier_s = saved["earlier_s"]
    loader = _loader(_Passes(batches, plan.seed), range(saved["done"] * plan.passes_per_step, plan.steps * plan.passes_per_step))
    since: list[Step] = []
    with Progress(saved["done"], plan.steps) as progress:
        for number in range(saved["done"] + 1, plan.steps + 1):
            begun = time.monotonic()
            step = learner.step(number, list(islice(loader, plan.passes_per_step)))
            if not math.isfinite(sum(step.losses.values())):
                raise SettingError(f"the loss of step {number} is no number: give a smaller learning_rate in presets.toml")
            since.append(step)
            progress.advance(step.tokens, time.monotonic() - begun, step.losses)
            if number % plan.validate_every_steps == 0 or number == plan.steps:
                result = exam.take(learner)
                saved["curve"].append(_row(number, since, result))
                if result.score > saved["score"]:
                    saved |= {"best": learner.weights(), "score": result.score}
                saved |= {"done": number, "earlier_s": earlier_s + time.monotonic() - started}
                resume.save(state_file, identity, {**saved, "learner": learner.state()})
                progress.say(json.dumps(saved["curve"][-1]))
                since = []
    learner.set_weights(saved["best"])
    return Run(saved["curve"], exam.take(learner), earlier_s + time.monotonic() - started, progress.tokens_per_s)


def _loader(passes: _Passes, numbers: range) -> Iterator[Batch]:
    # On a CPU nothing is gained by making the next batch meanwhile.
    workers = min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0
    # A generator of its own: the loader must not draw from the one that dropout draws from.
    return iter(DataLoader(passes, batch_size=None, sampler=numbers, num_workers=workers, generator=torch.Generator()))


def _row(number: int, since: list[Step], result: Result) -> dict[str, Any]:
    """A point of the curve: mean losses since the one before, and what the validation said."""
    losses: dict[str, list[float]] = {}
    for step in since:
        for name, loss in step.losses.items():
            losses.setdefault(f"{name}_loss", []).append(loss)
    return {"step": number, **{name: round(fmean(values), 4) for name, values in losses.items()}, **result.figures}
