"""Dialogues of an exact length in tokens, all different from their first word on, so that only the prefix can come from the KV cache."""

import random
from collections.abc import Iterator

from benchmarks.h200.load import Item
from one_pass import Dialogue, Prompt


def questions(prompt: Prompt, words: list[str], n_new_tokens: int, seed: int) -> Iterator[Item]:
    """Without end.

    Args:
        prompt: of the model that is asked.
        words: to make the lines of.
        n_new_tokens: tokens after the prefix, markers included.
        seed: the same gives the same dialogues.
    """
    rng = random.Random(seed)
    n_tokens = len(prompt.prefix_ids) + n_new_tokens
    seen: set[str] = set()
    while True:
        line: list[str] = []
        while len(prompt.encode(Dialogue("", " ".join([*line, "a"])))) <= n_tokens:
            line.append(rng.choice(words))
        # In another order the same words mostly have as many tokens, and are another line.
        for _ in range(200):
            rng.shuffle(line)
            text = " ".join(line)
            ids = tuple(prompt.encode(Dialogue("", text)))
            if len(ids) != n_tokens:
                break
            if text not in seen:
                seen.add(text)
                yield Item(text, ids)
