"""Triton model `tensorrt_llm` of target cpu: the tensors of TensorRT-LLM's backend, served by the CPU engine.

This file is the border with Triton: requests to `tensors` and back, errors to gRPC statuses. A tag is answered before `execute` returns;
everything longer is answered later by the scheduler's thread, so that Triton can bring the next request meanwhile. Whether the model is
decoupled makes no difference to that, only to whether it may stream. Nothing here logs token ids or text.
"""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

import tensors
from cpu_engine import CpuEngine, InvalidRequestError
from generation import Generation
from scheduler import BusyError, Scheduler


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine that lies beside this file, and start its scheduler."""
        config = json.loads(args["model_config"])
        parameters = {name: int(value["string_value"]) for name, value in config["parameters"].items()}
        self._decoupled: bool = config["model_transaction_policy"]["decoupled"]
        self._tokens_per_block = parameters["tokens_per_block"]
        self._engine = CpuEngine(Path(args["model_repository"]) / args["model_version"] / "engine")
        self._scheduler = Scheduler(self._engine, parameters["generation_slots"], parameters["max_queue_size"])

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer each request by itself, or see to it that it is answered later.

        A response is quicker returned than sent, but only of one that is sent is it known when it is on its way, so that generations may
        go on. A decoupled model cannot return any.
        """
        with self._scheduler.hold():
            responses = [self._respond(request) for request in requests]
            if self._scheduler.idle and not self._decoupled:
                return responses
            for request, response in zip(requests, responses, strict=True):
                if response is not None:
                    request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

    def finalize(self) -> None:
        """End the scheduler's thread."""
        self._scheduler.close()

    def _respond(self, request: Any) -> Any:
        """The response, or None if it is to come."""
        try:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            if tensors.asks_to_stop(inputs):
                if not request.request_id():
                    raise InvalidRequestError("stop needs the request id of the generation to stop")
                self._scheduler.stop(request.request_id())
                return pb_utils.InferenceResponse([])
            asked = tensors.read(inputs, request.requested_output_names(), self._engine, self._decoupled)
            if asked.urgent:
                return _response(asked, self._scheduler.run_now(asked.request), 0, self._tokens_per_block)
            self._scheduler.submit(asked.request, request.request_id(), _Reply(request, asked, self._tokens_per_block))
        except (InvalidRequestError, BusyError, RuntimeError) as error:
            return _failure(error)
        return None


class _Reply:
    """`scheduler.Caller` on a response sender of Triton."""

    def __init__(self, request: Any, asked: tensors.Asked, tokens_per_block: int) -> None:
        self._sender, self._asked, self._tokens_per_block = request.get_response_sender(), asked, tokens_per_block
        self._n_sent = 0
        self._cancelled = False
        self._closed = False

    def advanced(self, generation: Generation) -> None:
        if generation.finished or self._asked.streaming:
            self._send(_response(self._asked, generation, self._n_sent, self._tokens_per_block), final=generation.finished)
            self._n_sent = len(generation.tokens)

    def stopped(self, generation: Generation | None) -> None:
        if self._cancelled:
            error = pb_utils.TritonError("the request was cancelled", pb_utils.TritonError.CANCELLED)
            self._send(pb_utils.InferenceResponse(error=error), final=True)
        elif generation is None:
            self._send(pb_utils.InferenceResponse([]), final=True)
        else:
            self._send(_response(self._asked, generation, self._n_sent, self._tokens_per_block), final=True)

    def failed(self, error: Exception) -> None:
        self._send(_failure(error), final=True)

    def gave_up(self) -> bool:
        self._cancelled = self._sender.is_cancelled()
        return self._cancelled

    def _send(self, response: Any, final: bool) -> None:
        if not self._closed:
            self._closed = final
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)


def _response(asked: tensors.Asked, generation: Generation, n_sent: int, tokens_per_block: int) -> Any:
    arrays = tensors.write(asked, generation, n_sent, tokens_per_block)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in arrays.items()])


def _failure(error: Exception) -> Any:
    if isinstance(error, InvalidRequestError):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
    if isinstance(error, BusyError):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.UNAVAILABLE))
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"ONNX Runtime failed: {error}", pb_utils.TritonError.INTERNAL))
