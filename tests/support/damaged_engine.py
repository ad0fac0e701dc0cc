"""The CPU engine with faults that a dialogue can call for, to be loaded by tritonserver in place of the honest one.

Which words call for which fault is in `faults.json` beside the model: a list of token ids by the name of the fault.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cpu_engine import CpuEngine, Generation


class DamagedEngine(CpuEngine):
    """An honest engine until it reads one of the words."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._faults: dict[str, list[int]] = json.loads((folder.parent / "faults.json").read_text())

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, end_id: int | None = None) -> Generation:
        if self._calls_for("failure", prompt_ids):
            raise RuntimeError("out of memory")
        generation = super().generate(prompt_ids, max_new_tokens, end_id)
        if self._calls_for("nan", prompt_ids):
            return replace(generation, logits=np.full_like(generation.logits, np.nan))
        if self._calls_for("babble", prompt_ids):
            return replace(generation, token_ids=list(prompt_ids[-max_new_tokens - 8 : -8]))  # says again what it was told
        return generation

    def _calls_for(self, fault: str, prompt_ids: Sequence[int]) -> bool:
        word = self._faults[fault]
        return any(list(prompt_ids[i : i + len(word)]) == word for i in range(len(prompt_ids)))
