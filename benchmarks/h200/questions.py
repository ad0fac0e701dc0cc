"""Dialogues of an exact length in tokens, all different from their first word on, so that only the prefix can come from the KV cache."""

import json
import random
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from benchmarks.h200.load import Item
from build.evaluate import DIALOGUES
from one_pass import Dialogue, Prompt, Task, TextCodec


def served_prompt(repository: Path, tokens_per_block: int) -> Prompt:
    """The prompt as the tagger of an assembled repository makes it."""
    tagger = repository / "tagger" / "1"
    return Prompt(Task.load(tagger / "task.toml"), TextCodec.load(tagger / "tokenizer.json"), tokens_per_block)


def prepared(prompt: Prompt, n_new_tokens: int, n_prepared: int) -> Iterator[Item]:
    """`questions` of the words of the evaluation file, so many of them made already."""
    lines = [json.loads(line)["pika_response"] for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    endless = questions(prompt, sorted({word for line in lines for word in line.split()}), n_new_tokens, seed=n_new_tokens)
    return chain(list(islice(endless, n_prepared)), endless)


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
