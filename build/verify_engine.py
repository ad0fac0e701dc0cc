"""Ask a running server's `tensorrt_llm` as any client of TensorRT-LLM would: one prompt at a time, for one token or a few.

Only tensors of `build.contract` are used. What an engine does not declare is not asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, model_config_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from build.errors import ServerError
from pika_tagger._channel import OPTIONS, Endpoint

T = TypeVar("T")

MODEL = "tensorrt_llm"
REUSED = "kv_cache_reused_blocks"
_LOGITS = "generation_logits"
_ASK_FOR_METRICS = "return_perf_metrics"
_PATIENCE_S = 60.0
"""For one token. The first one computes the prefix too, on a CPU or on a GPU that others use."""


@dataclass(frozen=True)
class Answers:
    """What the engine gave for the prompts.

    Attributes:
        logits: float32 [n_prompts, vocab_size] of the token after each prompt.
        reused_blocks: KV-cache blocks that each request found; None if the engine does not declare that it says so.
    """

    logits: npt.NDArray[np.float32]
    reused_blocks: tuple[int, ...] | None


class Engine:
    """The model `tensorrt_llm` of one server."""

    def __init__(self, triton: InferenceServerClient, url: str) -> None:
        """Take an open connection; `connected` makes one."""
        self._triton, self._url = triton, url
        self.config: model_config_pb2.ModelConfig = self._call(lambda: triton.get_model_config(MODEL, client_timeout=_PATIENCE_S).config)

    @property
    def tells_reuse(self) -> bool:
        """Whether it declares the tensors that say how much of the KV cache was reused."""
        return _ASK_FOR_METRICS in {t.name for t in self.config.input} and REUSED in {t.name for t in self.config.output}

    def ask(self, prompts: Sequence[Sequence[int]]) -> Answers:
        """Ask them one after the other; the first one once more before, so that all of them can find the prefix in the KV cache.

        Raises:
            ServerError: a request failed, or a tensor that was asked for did not come.
        """
        self._one(prompts[0])
        answers = [self._one(ids) for ids in prompts]
        reused = tuple(int(answer[REUSED].reshape(-1)[0]) for answer in answers) if self.tells_reuse else None
        return Answers(np.stack([answer[_LOGITS][0, 0, 0] for answer in answers]), reused)

    def next_logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """As `one_pass.Engine` says. Raises as `ask`."""
        logits: npt.NDArray[np.float32] = self._one(ids)[_LOGITS][0, 0, 0]
        return logits

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        """As `one_pass.Engine` says. Raises as `ask`."""
        found = self._infer(ids, {"request_output_len": max_new_tokens, "end_id": end_id}, ["exclude_input_in_output"], [])
        new: list[int] = found["output_ids"][0, 0, : found["sequence_length"][0, 0]].tolist()
        return new[: new.index(end_id)] if end_id in new else new

    def _one(self, ids: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        flags = ["return_generation_logits", *([_ASK_FOR_METRICS] if self.tells_reuse else [])]
        return self._infer(ids, {"request_output_len": 1}, flags, [_LOGITS, *([REUSED] if self.tells_reuse else [])])

    def _infer(
        self, ids: Sequence[int], numbers: Mapping[str, int], flags: Sequence[str], outputs: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        """The named outputs of one request, and the two that the backend wants every request to name."""
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "input_ids": np.array([ids], dtype=np.int32),
            **{name: np.array([[number]], dtype=np.int32) for name, number in {"input_lengths": len(ids), **numbers}.items()},
            **{flag: np.array([[True]]) for flag in flags},
        }
        wanted = ["output_ids", "sequence_length", *outputs]
        result = self._call(
            lambda: self._triton.infer(
                MODEL,
                [_input(name, value) for name, value in tensors.items()],
                outputs=[InferRequestedOutput(name) for name in wanted],
                client_timeout=_PATIENCE_S,
            )
        )
        found = {name: result.as_numpy(name) for name in wanted}
        if missing := [name for name, value in found.items() if value is None]:
            raise ServerError(f"{MODEL} at {self._url} declares {', '.join(missing)} and did not send it: is it TensorRT-LLM 1.0.0?")
        return found

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except InferenceServerException as error:
            raise ServerError(
                f"{MODEL} at {self._url} cannot be asked ({error.message()}): start the server of this target and wait until it is ready "
                "(`doit serve`, or docker compose on a GPU)"
            ) from None


@contextmanager
def connected(url: str) -> Iterator[Engine]:
    """The engine of the server whose gRPC endpoint is `url`, HOST:PORT.

    Raises:
        ServerError: there is no server, or it has no such model.
        InvalidSettingError: `url` is not HOST:PORT.
    """
    with InferenceServerClient(Endpoint.of(url, None).target, channel_args=list(OPTIONS)) as triton:
        yield Engine(triton, url)


def _input(name: str, value: npt.NDArray[np.generic]) -> InferInput:
    tensor = InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return tensor
