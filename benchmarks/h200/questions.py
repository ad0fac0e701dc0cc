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

    def encoded(line: list[str]) -> tuple[int, ...]:
        return tuple(prompt.encode(Dialogue("", " ".join(line))))

    # Words that are one token each, so that their number decides; nearly every draw is then as long as it should be.
    known = words[0]
    single = [word for word in words if len(encoded([known, word, known])) == len(encoded([known, known])) + 1]
    n_words = n_new_tokens - (len(encoded(single[:1])) - len(prompt.prefix_ids)) + 1
    seen: set[tuple[int, ...]] = set()
    while True:
        line = rng.choices(single, k=n_words)
        ids = encoded(line)
        if len(ids) == len(prompt.prefix_ids) + n_new_tokens and ids not in seen:
            seen.add(ids)
            yield Item(" ".join(line), ids)
