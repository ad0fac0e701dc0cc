"""Triton model `tensorrt_llm` of target cpu: the tensors of TensorRT-LLM's backend, served by `cpu_engine`.

This file is the border with Triton: tensors to values and back, errors to gRPC statuses. Served so far is what one-pass tagging and plain
greedy generation need; an input that is not in config.pbtxt is refused by Triton itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from cpu_engine import CpuEngine, Generation, InvalidRequestError


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine that lies beside this file."""
        self._engine = CpuEngine(Path(args["model_repository"]) / args["model_version"] / "engine")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Serve the requests one after the other: there is one KV cache."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            n_input = _scalar(request, "input_lengths")
            input_ids = _tensor(request, "input_ids").reshape(-1)[:n_input].tolist()
            end_id = _scalar(request, "end_id", default=-1)
            generation = self._engine.generate(input_ids, _scalar(request, "request_output_len"), end_id)
        except InvalidRequestError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        except RuntimeError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"ONNX Runtime failed: {error}", pb_utils.TritonError.INTERNAL))
        return pb_utils.InferenceResponse(_outputs(request, input_ids, generation))


def _outputs(request: Any, input_ids: list[int], generation: Generation) -> list[Any]:
    """Tensors of a response. The logits only if they were both asked for and named, as TensorRT-LLM's backend does it."""
    shown = generation.token_ids if _scalar(request, "exclude_input_in_output", default=0) else input_ids + generation.token_ids
    tensors = [
        pb_utils.Tensor("output_ids", np.array([[shown]], dtype=np.int32)),
        pb_utils.Tensor("sequence_length", np.array([[len(shown)]], dtype=np.int32)),
    ]
    if _scalar(request, "return_generation_logits", default=0) and "generation_logits" in request.requested_output_names():
        tensors.append(pb_utils.Tensor("generation_logits", generation.logits[np.newaxis, np.newaxis]))
    return tensors


def _tensor(request: Any, name: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _scalar(request: Any, name: str, default: int | None = None) -> int:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        if default is None:
            raise InvalidRequestError(f"{name} is missing")
        return default
    return int(tensor.as_numpy().reshape(-1)[0])
