"""From logits to the next token, with TensorRT-LLM's parameters, their defaults and the order in which it applies them.

Order: embedding bias, temperature, repetition, presence and frequency penalty, minimum length, bad words, then top-k and top-p. Source: the
kernels for penalties, bad words and sampling in TensorRT-LLM 1.0.0. Numbers drawn from the same seed differ from a GPU's; a seed gives the
same tokens here every time. A new parameter of `Sampling` is added to the one step where it belongs.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine_request import Row, Sampling, ends_with

BANNED = np.finfo(np.float32).min
"""In place of a logit that must not win; finite, so that nothing becomes NaN where all are banned."""
_COLDEST = 1e-6
"""TensorRT-LLM adds this to the temperature, so that 0 is the coldest and no division by zero."""


class Sampler:
    """The choices of one generation."""

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int], vocab_size: int) -> None:
        """Begin after a prompt, whose tokens count as having occurred."""
        self._sampling = sampling
        self._random = None if sampling.greedy else np.random.default_rng(sampling.seed)
        self._occurrences: npt.NDArray[np.int64] | None = None
        if (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) != (1.0, 0.0, 0.0):
            self._occurrences = np.bincount(prompt_ids, minlength=vocab_size)

    def choose(self, logits: Row, ids: Sequence[int], n_new: int) -> tuple[int, Row]:
        """Choose the next token.

        Args:
            logits: of the position, not changed.
            ids: prompt and tokens so far.
            n_new: how many of them are new.

        Returns:
            The token, and the logits that it was chosen by, before top-k and top-p.
        """
        scores = self._scores(logits, ids, n_new)
        token = int(scores.argmax()) if self._random is None else self._draw(scores, self._random)
        if self._occurrences is not None:
            self._occurrences[token] += 1
        return token, scores

    def _scores(self, logits: Row, ids: Sequence[int], n_new: int) -> Row:
        how = self._sampling
        scores = logits if how.bias is None else logits + np.pad(how.bias, (0, logits.size - how.bias.size))
        if how.temperature != 1.0:
            scores = scores / np.float32(how.temperature + _COLDEST)
        if self._occurrences is not None:
            seen = self._occurrences > 0
            scores = np.where(seen, np.where(scores < 0, scores * how.repetition_penalty, scores / how.repetition_penalty), scores)
            scores = (scores - how.presence_penalty * seen - how.frequency_penalty * self._occurrences).astype(np.float32)
        banned = [word[-1] for word in how.bad_words if ends_with(ids, word[:-1])]
        if n_new < how.min_tokens:
            banned.append(how.end_id)
        banned = [token for token in banned if 0 <= token < scores.size]
        if banned:
            scores = scores.copy()
            scores[banned] = BANNED
        return scores

    def _draw(self, scores: Row, random: np.random.Generator) -> int:
        how = self._sampling
        likeliest = np.argsort(-scores, kind="stable")[: how.top_k or None]
        shares = np.exp((scores[likeliest] - scores[likeliest[0]]).astype(np.float64))
        shares /= shares.sum()
        before = np.cumsum(shares) - shares
        if 0 < how.top_p < 1:
            n = max(1, int(np.count_nonzero(before < how.top_p)))
            shares, before = shares[:n], before[:n]
        at = random.random() * shares.sum()
        return int(likeliest[np.searchsorted(before, at, side="right") - 1])


def log_softmax(scores: Row, token: int) -> float:
    """Natural logarithm of the probability of a token."""
    shifted = scores.astype(np.float64) - scores.max()
    return float(shifted[token] - np.log(np.exp(shifted).sum()))
