"""What every strategy needs and gives: an engine to ask, probabilities from its logits, and a tag.

The strategies themselves are in `codes`, `words` and `json_answer`; a new one is a class with the members of `Strategy`, named in
`strategies`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
"""Of the token that comes next, one for each id of the vocabulary."""


class AnswerError(ValueError):
    """The engine has answered, but its answer cannot be read; the message never repeats it."""


@dataclass(frozen=True)
class Tag:
    """Both answers with their probabilities. `emotion_scores` is float32 [n_labels], in label order, and sums to 1."""

    emotion_name: str
    flag: bool
    emotion_scores: npt.NDArray[np.float32]
    flag_score: float


class Engine(Protocol):
    """The language model, wherever it runs."""

    def next_logits(self, ids: list[int]) -> Logits:
        """Logits of the token after `ids`."""

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        """The most probable tokens after `ids`, one by one, up to and without `end_id` or as many as allowed."""


class Strategy(Protocol):
    """A way to get a tag out of an engine."""

    @property
    def max_answer_tokens(self) -> int:
        """How many tokens it adds to the prompt at most, those that the engine generates included."""

    def tag(self, prompt_ids: list[int], engine: Engine) -> Tag:
        """Ask the engine about one dialogue.

        Raises:
            AnswerError: the engine's answer cannot be read.
        """


def probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Softmax over some logits, the others being left out of account.

    Raises:
        AnswerError: one of them is not a finite number.
    """
    exact = logits.astype(np.float64)
    if not np.isfinite(exact).all():
        raise AnswerError("the engine returned logits that are not finite numbers: the engine or its weights are damaged, build it again")
    weights = np.exp(exact - exact.max())
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares
