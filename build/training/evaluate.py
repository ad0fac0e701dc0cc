"""Accuracy of a network on labelled dialogues, without any server: what training looks at while it runs."""

from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, Phi3ForCausalLM

from build.training.batches import Batches
from build.training.dialogues import Labelled
from one_pass import CodeTable, Prompt, Tag, Task

FALSE_COST = 2
"""A robot that celebrates a wrong answer is worse than one that misses a right one."""


@torch.no_grad()
def predict(model: Phi3ForCausalLM, batches: Batches, prompt: Prompt, codes: CodeTable, examples: list[Labelled], device: str) -> list[Tag]:
    """The tags that the network gives, in order."""
    model.eval()
    prefix = torch.tensor([prompt.prefix_ids], device=device)
    tags = []
    for start in range(0, len(examples), 250):
        batch = batches.collate(examples[start : start + 250])
        cache = DynamicCache()
        model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(batch.ids))
        logits = model(input_ids=batch.ids.to(device), past_key_values=cache, use_cache=True).logits
        rows = logits[torch.arange(len(batch.ids)), batch.code_positions].float().cpu().numpy()
        tags += [codes.read(row) for row in rows]
    return tags


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


def best_threshold(examples: list[Labelled], tags: list[Tag]) -> float:
    """P(yes) from which to celebrate: the cheapest on these dialogues, if a false celebration costs as much as FALSE_COST missed ones."""
    scores = np.array([tag.flag_score for tag in tags])
    truth = np.array([example.celebrate for example in examples])
    candidates = np.round(np.arange(0.05, 0.96, 0.05), 2)
    costs = [FALSE_COST * ((scores >= t) & ~truth).sum() + ((scores < t) & truth).sum() for t in candidates]
    return float(candidates[int(np.argmin(costs))])


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0
