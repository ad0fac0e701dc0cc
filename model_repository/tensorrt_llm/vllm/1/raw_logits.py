"""The model's own logits out of vLLM, for the requests that want them, without its log-probabilities.

vLLM gives log-probabilities as Python objects, one a token: 32 thousand of them for a row of Phi-3-mini. But it lets a logits processor see
the rows in which every request's next token is chosen, and the rows are copied there as they are. Works in vLLM 0.24's own process only
(VLLM_ENABLE_V1_MULTIPROCESSING=0) and with its V1 model runner, the one that has custom logits processors.
"""

from dataclasses import dataclass
from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from engine_request import Row

_KEY = "raw_logits_of"
"""In `SamplingParams.extra_args`: under which name the request's row is wanted."""


@dataclass(frozen=True)
class CopiedRow:
    """A row on its way from the GPU."""

    _row: torch.Tensor
    _arrived: torch.cuda.Event | None

    def wait(self) -> Row:
        """The row; float32 [vocab_size]."""
        if self._arrived is not None:
            self._arrived.synchronize()
        row: Row = self._row.numpy()
        return row


class RawLogits(LogitsProcessor):  # type: ignore[misc]  # vLLM is not installed where types are checked
    """vLLM makes one, of the class that `for_engine` gives. It changes no logits."""

    copied: dict[str, CopiedRow]
    """By the name that was asked for. The newest only: a prompt that is computed in pieces has a row for each, and the last counts."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        """As vLLM calls it; it takes memory that cannot be paged out, from which copies need not wait."""
        self._pin_memory = is_pin_memory and device.type == "cuda"
        self._wanted: dict[int, str] = {}

    @classmethod
    def for_engine(cls) -> type["RawLogits"]:
        """A class whose rows are shared with no other engine."""
        return type("RawLogitsOfOneEngine", (cls,), {"copied": {}})

    @staticmethod
    def asked_by(name: str) -> dict[str, str]:
        """What a request that wants its row has as `SamplingParams.extra_args`."""
        return {_KEY: name}

    def is_argmax_invariant(self) -> bool:
        """No, although nothing is changed: vLLM leaves out those that are where every token is the likeliest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the requests through the rows of the batch."""

        def name_of(params: SamplingParams, _prompt_ids: list[int] | None, _new_ids: list[int]) -> str | None:
            return (params.extra_args or {}).get(_KEY)

        process_dict_updates(self._wanted, batch_update, name_of)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Begin to copy what is wanted; `logits` is float32 [n_requests, vocab_size]."""
        if not self._wanted:
            return logits
        numbers = sorted(self._wanted)
        rows = logits if numbers == list(range(logits.shape[0])) else logits[numbers]
        host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=self._pin_memory)
        host.copy_(rows, non_blocking=True)
        arrived = None
        if logits.is_cuda:
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        self.copied.update((name, CopiedRow(host[at], arrived)) for at, name in enumerate(self._wanted[n] for n in numbers))
        return logits
