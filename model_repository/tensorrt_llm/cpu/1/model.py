"""Triton model `tensorrt_llm` of target cpu: the tensors of TensorRT-LLM's backend, served by the CPU engine.

This file is the border with Triton: requests to `tensors` and back by `replies`. A tag is answered before `execute` returns;
everything longer is answered later by the scheduler's thread, so that Triton can bring the next request meanwhile. Whether the model is
decoupled makes no difference to that, only to whether it may stream. Nothing here logs token ids or text.
"""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

import tensors
from cpu_engine import CpuEngine
from engine_request import BusyError, InvalidRequestError
from replies import Replies, Reply, send_last, to_stop
from scheduler import Scheduler


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine that lies beside this file, and start its scheduler."""
        config = json.loads(args["model_config"])
        parameters = {name: int(value["string_value"]) for name, value in config["parameters"].items()}
        self._decoupled: bool = config["model_transaction_policy"]["decoupled"]
        self._replies = Replies("ONNX Runtime", parameters["tokens_per_block"])
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
                    send_last(request, response)
        return None

    def finalize(self) -> None:
        """End the scheduler's thread."""
        self._scheduler.close()

    def _respond(self, request: Any) -> Any:
        """The response, or None if it is to come."""
        try:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            if (name := to_stop(request, inputs)) is not None:
                self._scheduler.stop(name)
                return pb_utils.InferenceResponse([])
            asked = tensors.read(inputs, request.requested_output_names(), self._engine, self._decoupled)
            if asked.urgent:
                return self._replies.response(asked, self._scheduler.run_now(asked.request), 0)
            self._scheduler.submit(asked.request, request.request_id(), Reply(request, asked, self._replies))
        except (InvalidRequestError, BusyError, RuntimeError) as error:
            return self._replies.failure(error)
        return None
