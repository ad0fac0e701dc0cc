"""The CPU engine: ONNX Runtime GenAI with KV-cache reuse, without any Triton in it.

An engine has as many sequences as are asked for, each with a KV cache of its own that is allocated once. A new prompt keeps what it has in
common with what the sequence held before and computes the rest, so a fixed prefix is computed once. Rewinding is exact: the logits are
those of a fresh computation (a test says so). What is done with the logits is not decided here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime_genai as og

from engine_request import Row


@dataclass(frozen=True)
class OnePass:
    """What one forward pass says about the next token."""

    logits: Row
    reused_tokens: int
    """Tokens of the prompt that were still in the KV cache."""


class KvSequence:
    """One sequence of tokens with its KV cache. Not thread-safe, and ONNX Runtime GenAI holds Python's lock while it computes."""

    def __init__(self, generator: og.Generator) -> None:
        """Take over a generator that is empty."""
        self._generator = generator
        self.ids: list[int] = []
        """What is in the KV cache."""

    def shared_tokens(self, prompt_ids: Sequence[int]) -> int:
        """How many tokens of a prompt need not be computed: those that are in the cache, without the last, whose logits are wanted."""
        return min(_common_length(self.ids, prompt_ids), len(prompt_ids) - 1)

    def rewind(self, n_tokens: int) -> None:
        """Forget all but the first `n_tokens`."""
        if n_tokens < len(self.ids):
            self._generator.rewind_to(n_tokens)
            self.ids = self.ids[:n_tokens]

    def extend(self, ids: Sequence[int]) -> None:
        """Compute tokens that follow.

        Raises:
            RuntimeError: ONNX Runtime failed. The cache is emptied, so that the next prompt starts clean.
        """
        try:
            self._generator.append_tokens(np.array(ids, dtype=np.int32))
        except RuntimeError:
            self.ids = []
            self._generator.rewind_to(0)
            raise
        self.ids += ids

    def logits(self) -> Row:
        """Logits after the token that was computed last; not valid after a rewind."""
        return np.array(self._generator.get_logits(), dtype=np.float32).reshape(-1)

    def one_pass(self, prompt_ids: Sequence[int]) -> OnePass:
        """Compute a whole prompt at once. Raises as `extend`."""
        reused = self.shared_tokens(prompt_ids)
        self.rewind(reused)
        self.extend(prompt_ids[reused:])
        return OnePass(self.logits(), reused)


class CpuEngine:
    """The weights, once, and what is known of the model."""

    def __init__(self, folder: Path) -> None:
        """Load the engine from the folder that `doit build_engine` made for target cpu."""
        self._model = og.Model(str(folder))
        description = json.loads((folder / "genai_config.json").read_text())
        self.max_tokens: int = description["search"]["max_length"]
        """The longest prompt and answer together; every sequence allocates its KV cache for as many."""
        self.vocab_size: int = description["model"]["vocab_size"]
        self.pad_id: int = description["model"]["pad_token_id"]

    def new_sequence(self) -> KvSequence:
        """An empty sequence."""
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(do_sample=False)
        return KvSequence(og.Generator(self._model, parameters))


def _common_length(a: Sequence[int], b: Sequence[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
