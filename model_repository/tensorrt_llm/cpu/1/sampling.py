"""From logits to the next token, with TensorRT-LLM's parameters, their defaults and the order in which it applies them.

Order: embedding bias, temperature, repetition, presence and frequency penalty, minimum length, bad words, then top-k and top-p. Source: the
kernels for penalties, bad words and sampling in TensorRT-LLM 1.0.0. Numbers drawn from the same seed differ from a GPU's; a seed gives the
same tokens here every time. A new parameter is added to `Sampling` and to the one step where it belongs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cpu_engine import InvalidRequestError, Row

BANNED = np.finfo(np.float32).min
"""In place of a logit that must not win; finite, so that nothing becomes NaN where all are banned."""
_COLDEST = 1e-6
"""TensorRT-LLM adds this to the temperature, so that 0 is the coldest and no division by zero."""

Words = tuple[tuple[int, ...], ...]
"""Words as token ids."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. As it stands it is greedy."""

    temperature: float = 1.0
    top_k: int = 0
    """Only so many of the likeliest tokens are considered; 0 is all of them if `top_p` is set, and one if it is not."""
    top_p: float = 0.0
    """Only the likeliest tokens that together have this probability are considered; 0 and 1 are all."""
    seed: int = 0
    repetition_penalty: float = 1.0
    """Divides the logit of a token that has occurred if it is positive, multiplies it if it is not."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of a token that has occurred."""
    frequency_penalty: float = 0.0
    """Subtracted as often as the token has occurred."""
    min_tokens: int = 0
    """Before so many tokens `end_id` is not chosen."""
    end_id: int = -1
    bad_words: Words = ()
    bias: Row | None = None
    """Added to the logits of as many tokens as it has values: a tokenizer may know fewer tokens than the model has logits."""

    def check(self, vocab_size: int) -> None:
        """Whether the values can be used.

        Raises:
            InvalidRequestError: one cannot; the message names the tensor and the range.
        """
        for name, value, fits, range_ in (
            ("temperature", self.temperature, self.temperature >= 0, "0 or above"),
            ("runtime_top_k", self.top_k, self.top_k >= 0, "0 or above"),
            ("runtime_top_p", self.top_p, self.top_p <= 1, "at most 1"),
            ("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0"),
            ("presence_penalty", self.presence_penalty, True, "a finite number"),
            ("frequency_penalty", self.frequency_penalty, True, "a finite number"),
            ("min_tokens", self.min_tokens, self.min_tokens >= 0, "0 or above"),
        ):
            if not fits or not math.isfinite(value):
                raise InvalidRequestError(f"{name} is {value:g}; give {range_}")
        if self.bias is not None and (self.bias.size > vocab_size or not np.isfinite(self.bias).all()):
            raise InvalidRequestError(f"embedding_bias has {self.bias.size} values; give at most {vocab_size}, all of them finite")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.top_k == 1 or (self.top_k == 0 and self.top_p <= 0)


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


def ends_with(ids: Sequence[int], word: Sequence[int]) -> bool:
    """Whether the last of `ids` are `word`; every sequence ends with the empty word."""
    return len(word) <= len(ids) and list(ids[len(ids) - len(word) :]) == list(word)
