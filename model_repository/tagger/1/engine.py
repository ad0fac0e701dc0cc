"""The engine that `one_pass` asks, as the Triton model `tensorrt_llm`, called inside the server.

Here are the tensors of TensorRT-LLM's Triton backend 1.0.0, and nothing that every target's `tensorrt_llm` does not take.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

MODEL = "tensorrt_llm"
REUSED_BLOCKS = "kv_cache_reused_blocks"
_KEPT_SERIES = 8
"""When a series of responses has ended, a thread of the backend lets go of it a little later, without Python's lock. If it is the last to
do so, it frees what is Python's, and the process dies of it: seen with Python 3.12, on a busy machine in every second start. So that thread
must not be the last; after so many more series it has long been there."""


class EngineError(RuntimeError):
    """The engine model failed; the message is its own."""


class TritonEngine:
    """`one_pass.Engine` on the model `tensorrt_llm`; decoding is greedy, the backend's default."""

    def __init__(self, decoupled: bool, tokens_per_block: int, passed: Callable[[int, int], None]) -> None:
        """Keep what is needed to ask.

        Args:
            decoupled: whether the engine model is, which Triton wants to know of whoever calls it.
            tokens_per_block: of the engine's KV cache.
            passed: called after each answer with the tokens of the prompt, and with those that were found in the KV cache.
        """
        self._decoupled, self._tokens_per_block, self._passed = decoupled, tokens_per_block, passed
        self._series: deque[Iterator[Any]] = deque(maxlen=_KEPT_SERIES)

    def next_logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """As `one_pass.Engine` says. Raises EngineError."""
        (logits,) = self._infer(ids, {"request_output_len": 1}, "return_generation_logits", ["generation_logits"])
        return logits[0, 0, 0]

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        """As `one_pass.Engine` says. Raises EngineError."""
        numbers = {"request_output_len": max_new_tokens, "end_id": end_id}
        tokens, lengths = self._infer(ids, numbers, "exclude_input_in_output", ["output_ids", "sequence_length"])
        new: list[int] = tokens[0, 0, : lengths[0, 0]].tolist()
        return new[: new.index(end_id)] if end_id in new else new

    def _infer(self, ids: list[int], numbers: dict[str, int], flag: str, outputs: list[str]) -> list[npt.NDArray[Any]]:
        """The named outputs of one request."""
        numbers = {"input_lengths": len(ids), **numbers}
        request = pb_utils.InferenceRequest(
            model_name=MODEL,
            # The backend refuses a request that does not name the first two.
            requested_output_names=list(dict.fromkeys(["output_ids", "sequence_length", REUSED_BLOCKS, *outputs])),
            inputs=[
                pb_utils.Tensor("input_ids", np.array([ids], dtype=np.int32)),
                *(pb_utils.Tensor(name, np.array([[number]], dtype=np.int32)) for name, number in numbers.items()),
                *(pb_utils.Tensor(name, np.array([[True]])) for name in (flag, "return_perf_metrics")),
            ],
        )
        response = self._first_of_series(request) if self._decoupled else request.exec()
        if response.has_error():
            raise EngineError(f"the engine failed: {response.error().message()}")
        reused = pb_utils.get_output_tensor_by_name(response, REUSED_BLOCKS)
        # No tag fails for want of a figure: whether NVIDIA's backend sends this one with every answer has not been seen yet.
        self._passed(len(ids), int(reused.as_numpy().item()) * self._tokens_per_block if reused else 0)
        return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs]

    def _first_of_series(self, request: Any) -> Any:
        """A decoupled model answers with a series of responses; a request that does not stream gets one."""
        series = iter(request.exec(decoupled=True))
        self._series.append(series)
        return next(series)
