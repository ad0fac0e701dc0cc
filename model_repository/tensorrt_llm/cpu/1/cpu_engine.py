"""The CPU engine: ONNX Runtime GenAI with KV-cache reuse, without any Triton in it.

One sequence lives in the KV cache. A new prompt keeps what it has in common with that sequence and computes the rest, so a fixed prefix is
computed once. Rewinding is exact: the logits are those of a fresh computation (a test says so).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime_genai as og


class InvalidRequestError(ValueError):
    """A request that this engine cannot serve; the message names the tensor and the limit."""


@dataclass(frozen=True)
class Generation:
    """The result of one request."""

    token_ids: list[int]
    """New tokens, greedy."""
    logits: npt.NDArray[np.float32]
    """[n_new_tokens, vocab_size]; row i is the distribution from which token i was chosen."""
    reused_tokens: int
    """Tokens of the prompt that were still in the KV cache."""


class CpuEngine:
    """One ONNX Runtime GenAI model with one sequence in its KV cache. Not thread-safe: Triton calls it from one thread."""

    def __init__(self, folder: Path) -> None:
        """Load the engine from the folder that `doit build_engine` made for target cpu."""
        self._model = og.Model(str(folder))
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(do_sample=False)
        self._generator = og.Generator(self._model, parameters)
        self._cached: list[int] = []
        description = json.loads((folder / "genai_config.json").read_text())
        self.max_tokens: int = description["search"]["max_length"]
        self.vocab_size: int = description["model"]["vocab_size"]

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, end_id: int | None = None) -> Generation:
        """Continue a prompt greedily until `end_id` (which is included) or `max_new_tokens`.

        Raises:
            InvalidRequestError: the prompt is empty, has ids outside the vocabulary, or is too long.
            RuntimeError: ONNX Runtime failed. The KV cache is emptied, so that the next request starts clean.
        """
        self._check(prompt_ids, max_new_tokens)
        try:
            return self._generate(prompt_ids, max_new_tokens, end_id)
        except RuntimeError:
            self._generator.rewind_to(0)
            self._cached = []
            raise

    def _generate(self, prompt_ids: Sequence[int], max_new_tokens: int, end_id: int | None) -> Generation:
        reused = min(_common_length(self._cached, prompt_ids), len(prompt_ids) - 1)
        if reused < len(self._cached):
            self._generator.rewind_to(reused)
        self._cached = list(prompt_ids[:reused])
        self._append(prompt_ids[reused:])
        token_ids: list[int] = []
        rows: list[npt.NDArray[np.float32]] = []
        while True:
            row = np.array(self._generator.get_logits(), dtype=np.float32).reshape(-1)
            rows.append(row)
            token_ids.append(int(row.argmax()))
            if len(token_ids) == max_new_tokens or token_ids[-1] == end_id:
                return Generation(token_ids, np.stack(rows), reused)
            self._append(token_ids[-1:])

    def _append(self, ids: Sequence[int]) -> None:
        self._generator.append_tokens(np.array(ids, dtype=np.int32))
        self._cached += ids

    def _check(self, prompt_ids: Sequence[int], max_new_tokens: int) -> None:
        if max_new_tokens < 1:
            raise InvalidRequestError(f"request_output_len is {max_new_tokens}; ask for at least one token")
        if not prompt_ids:
            raise InvalidRequestError("input_ids is empty")
        if not 0 <= min(prompt_ids) <= max(prompt_ids) < self.vocab_size:
            raise InvalidRequestError(f"input_ids has an id outside the vocabulary of {self.vocab_size} tokens")
        if len(prompt_ids) + max_new_tokens > self.max_tokens:
            raise InvalidRequestError(
                f"{len(prompt_ids)} input_ids and a request_output_len of {max_new_tokens} exceed the engine's {self.max_tokens} tokens"
            )


def _common_length(a: Sequence[int], b: Sequence[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
