"""The CPU engine with faults that a dialogue can call for, to be loaded by tritonserver in place of the honest one.

Which words call for which fault is in `faults.json` beside the model: a list of token ids by the name of the fault.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpu_engine import CpuEngine, KvSequence
from engine_request import Row


class DamagedSequence(KvSequence):
    """An honest sequence until it reads one of the words."""

    def __init__(self, honest: KvSequence, faults: dict[str, list[int]]) -> None:
        super().__init__(honest._generator)
        self._faults = faults

    def extend(self, ids: Sequence[int]) -> None:
        super().extend(ids)
        if self._calls_for("failure"):
            raise RuntimeError("out of memory")

    def logits(self) -> Row:
        honest = super().logits()
        if self._calls_for("nan"):
            return np.full_like(honest, np.nan)
        if self._calls_for("babble"):
            honest[self.ids[-20]] = honest.max() + 1  # says again what it was told
        return honest

    def _calls_for(self, fault: str) -> bool:
        word = self._faults[fault]
        return any(self.ids[i : i + len(word)] == word for i in range(len(self.ids)))


class DamagedEngine(CpuEngine):
    """Makes such sequences."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._faults: dict[str, list[int]] = json.loads((folder.parent / "faults.json").read_text())

    def new_sequence(self) -> KvSequence:
        return DamagedSequence(super().new_sequence(), self._faults)
