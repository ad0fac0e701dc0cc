"""A CPU engine whose language model is a rule, so that what must come out is known; everything around it is the real thing.

After token t the likeliest is t + 1, then t + 2 and so on, each less by one; the vocabulary is a ring.
"""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from cpu_engine import CpuEngine, KvSequence
from engine_request import Row

VOCAB_SIZE = 16


def row_after(token: int) -> Row:
    return -((np.arange(VOCAB_SIZE) - token - 1) % VOCAB_SIZE).astype(np.float32)


class RuleSequence(KvSequence):
    """A sequence that remembers what it was given to compute."""

    def __init__(self, on_extend: Callable[[list[int]], None]) -> None:
        self.ids = []
        self._on_extend = on_extend

    def rewind(self, n_tokens: int) -> None:
        self.ids = self.ids[:n_tokens]

    def extend(self, ids: Sequence[int]) -> None:
        self._on_extend(list(ids))
        self.ids = [*self.ids, *ids]

    def logits(self) -> Row:
        return row_after(self.ids[-1])


class RuleEngine:
    """Makes such sequences; `on_extend` is called with what is about to be computed."""

    def __init__(self, on_extend: Callable[[list[int]], None] = lambda ids: None, max_tokens: int = 1000) -> None:
        self.vocab_size, self.max_tokens, self.pad_id = VOCAB_SIZE, max_tokens, 0
        self.on_extend = on_extend

    def new_sequence(self) -> RuleSequence:
        return RuleSequence(lambda ids: self.on_extend(ids))


def rule_engine(on_extend: Callable[[list[int]], None] = lambda ids: None, max_tokens: int = 1000) -> CpuEngine:
    """What takes the place of a `CpuEngine`."""
    return cast(CpuEngine, RuleEngine(on_extend, max_tokens))
