"""Triton model `tensorrt_llm` of targets that serve with vLLM: the tensors of TensorRT-LLM's backend over an AWQ checkpoint.

This file is the border with Triton: requests to `tensors`, and everything is answered later by the stepper's thread, so that Triton can
bring the next request meanwhile and all that are under way are computed together. Nothing here logs token ids or text.
"""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

import tensors
from engine_request import BusyError, InvalidRequestError
from replies import Replies, Reply, send_last, to_stop
from stepper import Stepper
from vllm_engine import EngineSettings, VllmEngine


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the checkpoint that lies beside this file, and start the thread that steps."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        settings = EngineSettings.read(parameters)
        self._decoupled: bool = config["model_transaction_policy"]["decoupled"]
        self._replies = Replies("vLLM", settings.block_size)
        self._engine = VllmEngine(Path(args["model_repository"]) / args["model_version"] / "awq", settings)
        self._stepper = Stepper(self._engine, settings.max_num_seqs + int(parameters["max_queue_size"]))

    def execute(self, requests: list[Any]) -> None:
        """See to it that each request is answered, now if it cannot be served."""
        for request in requests:
            try:
                self._begin(request)
            except (InvalidRequestError, BusyError) as error:
                send_last(request, self._replies.failure(error))

    def finalize(self) -> None:
        """End the thread, then vLLM."""
        self._stepper.close()
        self._engine.close()

    def _begin(self, request: Any) -> None:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        if (name := to_stop(request, inputs)) is not None:
            self._stepper.stop(name)
            send_last(request, pb_utils.InferenceResponse([]))
            return
        asked = tensors.read(inputs, request.requested_output_names(), self._engine, self._decoupled)
        self._engine.check(asked.request)
        self._stepper.submit(asked.request, request.request_id(), Reply(request, asked, self._replies))
