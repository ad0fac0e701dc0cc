"""Accuracy of a network on labelled dialogues, without any server: what training looks at while it runs."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import Phi3ForCausalLM

from build.training import network
from build.training.batches import Batches
from build.training.dialogues import Labelled
from one_pass import CodeTable, Prompt, Tag, Task

FALSE_COST = 3
"""A robot that celebrates a wrong answer is worse than one that misses a right one."""


FINEST_TEMPERATURE, COARSEST_TEMPERATURE = 0.2, 2.0


Logits = npt.NDArray[np.float32]


@torch.no_grad()
def answer_logits(
    model: Phi3ForCausalLM, batches: Batches, prompt: Prompt, examples: list[Labelled], device: str
) -> npt.NDArray[np.float32]:
    """Logits [n_examples, vocab_size] of the answer token of each example."""
    model.eval()
    prefix = torch.tensor([prompt.prefix_ids], device=device)
    rows = []
    for start in range(0, len(examples), 250):
        batch = batches.collate(examples[start : start + 250])
        hidden = network.after_prefix(model, prefix, input_ids=batch.ids.to(device))
        rows.append(model.lm_head(hidden[torch.arange(len(batch.ids)), batch.code_positions]).float().cpu().numpy())
    return np.concatenate(rows)


def predict(model: Phi3ForCausalLM, batches: Batches, prompt: Prompt, codes: CodeTable, examples: list[Labelled], device: str) -> list[Tag]:
    """The tags that the network gives, in order."""
    return [codes.read(row) for row in answer_logits(model, batches, prompt, examples, device)]


def best_temperature(examples: list[Labelled], logits: Logits, codes: CodeTable) -> float:
    """By what to divide the logits so that the tagger is, on average, as sure of its emotions as it is often right about them."""
    finest, coarsest = FINEST_TEMPERATURE, COARSEST_TEMPERATURE
    for _ in range(12):
        middle = (finest + coarsest) / 2
        tags = [codes.read(row / middle) for row in logits]
        confidence = sum(float(tag.emotion_scores.max()) for tag in tags) / len(tags)
        right = sum(tag.emotion_name in example.emotions for example, tag in zip(examples, tags, strict=True)) / len(tags)
        finest, coarsest = (middle, coarsest) if confidence > right else (finest, middle)
    return middle


def accuracy(examples: list[Labelled], tags: list[Tag], task: Task) -> dict[str, Any]:
    """Shares of right answers: emotion (any acceptable one), the best emotion, celebrate, and per best emotion."""
    pairs = list(zip(examples, tags, strict=True))
    by_emotion = {name: _share([t.emotion_name in e.emotions for e, t in pairs if e.emotion == name]) for name in task.label_names}
    return {
        "emotion": _share([t.emotion_name in e.emotions for e, t in pairs]),
        "best_emotion": _share([t.emotion_name == e.emotion for e, t in pairs]),
        "celebrate": _share([t.flag == e.celebrate for e, t in pairs]),
        "false_celebrations": _share([t.flag for e, t in pairs if not e.celebrate]),
        "by_emotion": by_emotion,
    }


def confusion(examples: list[Labelled], tags: list[Tag], task: Task) -> list[list[int]]:
    """Counts [true, predicted] in label order; an acceptable prediction counts as its own label being true."""
    index = {name: i for i, name in enumerate(task.label_names)}
    counts = np.zeros((len(index), len(index)), dtype=np.int64)
    for example, tag in zip(examples, tags, strict=True):
        true = tag.emotion_name if tag.emotion_name in example.emotions else example.emotion
        counts[index[true], index[tag.emotion_name]] += 1
    rows: list[list[int]] = counts.tolist()
    return rows


def best_threshold(examples: list[Labelled], tags: list[Tag]) -> float:
    """P(yes) from which to celebrate: the cheapest on these dialogues, if a false celebration costs as much as FALSE_COST missed ones.

    Of several that cost the same, the middle one: it is the one that fits other dialogues best.
    """
    scores = np.array([tag.flag_score for tag in tags])
    truth = np.array([example.celebrate for example in examples])
    candidates = np.round(np.arange(0.05, 0.96, 0.05), 2)
    costs = np.array([FALSE_COST * ((scores >= t) & ~truth).sum() + ((scores < t) & truth).sum() for t in candidates])
    cheapest = candidates[costs == costs.min()]
    return float(cheapest[len(cheapest) // 2])


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0
