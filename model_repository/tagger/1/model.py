"""Triton model `tagger`: strings in, tag out, one engine pass in between.

This file is the border with Triton: tensors to values and back, errors to gRPC statuses. What is asked and how the answer is read is
`one_pass`; the pass itself is the model `tensorrt_llm`, called inside the server. Nothing here logs or counts any dialogue text.
"""

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from one_pass import CodeTable, Dialogue, InvalidDialogueError, Prompt, Tag, Task, TextCodec

ENGINE = "tensorrt_llm"
FLAG_WORDS = ("no", "yes")
NEW_TOKENS = np.array([[1]], dtype=np.int32)
WANT_LOGITS = np.array([[True]])
END_ID = np.array([[-1]], dtype=np.int32)  # no token ends the answer early: one is asked for, one comes


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load task and tokenizer, which were checked against each other when the repository was assembled."""
        parameters = json.loads(args["model_config"])["parameters"]
        folder = Path(args["model_repository"]) / args["model_version"]
        task = Task.load(folder / "task.toml")
        codec = TextCodec.load(folder / "tokenizer.json")
        self._prompt = Prompt(task, codec, int(parameters["tokens_per_block"]["string_value"]))
        self._codes = CodeTable(task, codec)
        # Everything loaded so far lives as long as the process; the collector need not look at it between requests.
        gc.collect()
        gc.freeze()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself: one that fails does not touch its neighbours."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            tags = [self._tag(dialogue) for dialogue in _dialogues(request)]
        except InvalidDialogueError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except (EngineError, ValueError) as error:  # ValueError: logits that are no numbers
            return _failure(str(error), pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("emotion_name", _strings([tag.emotion_name for tag in tags])),
                pb_utils.Tensor("celebrate", _strings([FLAG_WORDS[tag.flag] for tag in tags])),
                pb_utils.Tensor("emotion_scores", np.stack([tag.emotion_scores for tag in tags])),
                pb_utils.Tensor("celebrate_score", np.array([[tag.flag_score] for tag in tags], dtype=np.float32)),
            ]
        )

    def _tag(self, dialogue: Dialogue) -> Tag:
        ids = np.array([self._prompt.encode(dialogue)], dtype=np.int32)
        return self._codes.read(_first_logits(ids))


class EngineError(RuntimeError):
    """The engine model failed; the message is its own."""


def _first_logits(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Logits [vocab_size] of the first token after the prompt `ids` [1, n_tokens]."""
    response = pb_utils.InferenceRequest(
        model_name=ENGINE,
        # TensorRT-LLM's backend refuses a request that does not name the first two.
        requested_output_names=["output_ids", "sequence_length", "generation_logits"],
        inputs=[
            pb_utils.Tensor("input_ids", ids),
            pb_utils.Tensor("input_lengths", np.array([[ids.shape[1]]], dtype=np.int32)),
            pb_utils.Tensor("request_output_len", NEW_TOKENS),
            pb_utils.Tensor("end_id", END_ID),
            pb_utils.Tensor("return_generation_logits", WANT_LOGITS),
        ],
    ).exec()
    if response.has_error():
        raise EngineError(f"the engine failed: {response.error().message()}")
    logits: npt.NDArray[np.float32] = pb_utils.get_output_tensor_by_name(response, "generation_logits").as_numpy()
    return logits[0, 0, 0]


def _dialogues(request: Any) -> list[Dialogue]:
    """One dialogue per row of the request's batch."""
    child, pika, before = (_texts(request, name) for name in ("user_last_message", "pika_response", "pika_last_message"))
    rows = len(pika)
    return [Dialogue(*row) for row in zip(child, pika, before or [None] * rows, strict=True)]


def _texts(request: Any, name: str) -> list[str]:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return []
    try:
        return [raw.decode("utf-8") for raw in tensor.as_numpy().reshape(-1)]
    except UnicodeDecodeError:
        raise InvalidDialogueError(f"{name} is not valid UTF-8") from None


def _strings(values: list[str]) -> npt.NDArray[np.object_]:
    return np.array([[value.encode()] for value in values], dtype=np.object_)


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
