"""An engine whose language model is a table: every answer with its probability.

What a strategy must read from its logits can therefore be computed exactly.
"""

from collections.abc import Mapping

import numpy as np

from one_pass import Prompt
from one_pass.answer import Logits

FLOOR = -1e4
"""So low that its probability is exactly 0."""


class TableEngine:
    """`one_pass.Engine` for one dialogue; it remembers what it was asked."""

    def __init__(self, prompt: Prompt, prompt_ids: list[int], answers: Mapping[str, float]) -> None:
        """Take the answers as texts, without the end marker."""
        self._codec, self._prompt_ids = prompt.codec, prompt_ids
        end = prompt.task.template.example_end
        self._answers = [(prompt.answer_ids(text + end), weight) for text, weight in answers.items()]
        self.asked: list[list[int]] = []
        """What was after the prompt, pass by pass."""
        self.generated: list[int] = []
        """Limits and end markers of what was to be generated."""

    def next_logits(self, ids: list[int]) -> Logits:
        """As `one_pass.Engine` says."""
        assert ids[: len(self._prompt_ids)] == self._prompt_ids
        so_far = ids[len(self._prompt_ids) :]
        self.asked.append(so_far)
        shares = np.zeros(self._codec.vocab_size)
        for answer, weight in self._answers:
            if answer[: len(so_far)] == so_far and len(answer) > len(so_far):
                shares[answer[len(so_far)]] += weight
        return np.log(shares, out=np.full_like(shares, FLOOR), where=shares > 0).astype(np.float32)

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        """As `one_pass.Engine` says."""
        self.generated += [max_new_tokens, end_id]
        new: list[int] = []
        while len(new) < max_new_tokens and (token := int(self.next_logits(ids + new).argmax())) != end_id:
            new.append(token)
        return new
