"""What can be asked of an engine that runs in Python: the same on every target, and what is refused before an engine sees it.

Only values are here. A new input of the contract gets its field here, is read in `tensors`, and does something in every engine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]
"""Logits of one position: [vocab_size]."""
Words = tuple[tuple[int, ...], ...]
"""Words as token ids."""


class InvalidRequestError(ValueError):
    """A request that this engine cannot serve; the message names the tensor and the limit."""


class BusyError(RuntimeError):
    """No more can wait; the message says how many do."""


class Limits(Protocol):
    """What a request is checked against."""

    @property
    def max_tokens(self) -> int:
        """The longest prompt and answer together."""

    @property
    def vocab_size(self) -> int:
        """How many logits the model gives for a position."""


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


@dataclass(frozen=True)
class Request:
    """What to generate."""

    prompt_ids: list[int]
    max_new_tokens: int
    end_id: int = -1
    """Ends the answer and is no part of it, as in TensorRT-LLM; one that the vocabulary has not never ends it."""
    stop_words: Words = ()
    """End the answer and are part of it."""
    sampling: Sampling = field(default_factory=Sampling)
    wants_logits: bool = False
    wants_log_probs: bool = False
    wants_context_logits: bool = False

    def check(self, engine: Limits) -> None:
        """Whether the engine can do it.

        Raises:
            InvalidRequestError: it cannot; the message names the tensor and the limit.
        """
        if self.max_new_tokens < 1:
            raise InvalidRequestError(f"request_output_len is {self.max_new_tokens}; ask for at least one token")
        if not self.prompt_ids:
            raise InvalidRequestError("input_ids is empty")
        if len(self.prompt_ids) + self.max_new_tokens > engine.max_tokens:
            raise InvalidRequestError(
                f"{len(self.prompt_ids)} input_ids and a request_output_len of {self.max_new_tokens} exceed the engine's "
                f"{engine.max_tokens} tokens"
            )
        self.sampling.check(engine.vocab_size)

    def known_ids(self, vocab_size: int, pad_id: int) -> list[int]:
        """The prompt with padding for ids that the vocabulary has not: clients that measure send random numbers."""
        if min(self.prompt_ids) >= 0 and max(self.prompt_ids) < vocab_size:
            return list(self.prompt_ids)
        return [token if 0 <= token < vocab_size else pad_id for token in self.prompt_ids]


def ends_with(ids: Sequence[int], word: Sequence[int]) -> bool:
    """Whether the last of `ids` are `word`; every sequence ends with the empty word."""
    return len(word) <= len(ids) and list(ids[len(ids) - len(word) :]) == list(word)
