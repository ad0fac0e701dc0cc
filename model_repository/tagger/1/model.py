"""Triton model `tagger`: strings in, tag out, one or more passes of the engine in between.

This file is the border with Triton: tensors to values and back, errors to gRPC statuses. What is asked and how the answer is read is
`one_pass`; the passes are the model `tensorrt_llm`, called by `engine`. Nothing here logs or counts any dialogue text.
"""

import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from engine import EngineError, TritonEngine
from one_pass import FLAG_WORDS, AnswerError, Dialogue, InvalidDialogueError, Prompt, Tag, Task, TextCodec, make_strategies


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load task and tokenizer, which were checked against each other when the repository was assembled."""
        parameters = json.loads(args["model_config"])["parameters"]
        folder = Path(args["model_repository"]) / args["model_version"]
        task = Task.load(folder / "task.toml")
        codec = TextCodec.load(folder / "tokenizer.json")
        self._prompt = Prompt(task, codec, int(parameters["tokens_per_block"]["string_value"]))
        self._strategies = make_strategies(self._prompt)
        self._default_strategy: str = parameters["strategy"]["string_value"]
        self._engine = TritonEngine(decoupled=parameters["engine_decoupled"]["string_value"] == "true")
        # Named by who started the server: docs/serving.md. Its absence is asked for in microseconds.
        self._stopping = os.environ.get("PIKA_STOPPING_FILE", "")
        # Everything loaded so far lives as long as the process; the collector need not look at it between requests.
        gc.collect()
        gc.freeze()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself: one that fails does not touch its neighbours."""
        if os.path.exists(self._stopping):  # noqa: PTH110, a Path would take three times as long
            return [_failure("the server is stopping: ask another one, or this one in a moment", pb_utils.TritonError.UNAVAILABLE)] * len(
                requests
            )
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            dialogues = _dialogues(request)
            strategies = _texts(request, "strategy") or [self._default_strategy] * len(dialogues)
            tags = [self._tag(*row) for row in zip(dialogues, strategies, strict=True)]
        except InvalidDialogueError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except (EngineError, AnswerError) as error:
            return _failure(str(error), pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("emotion_name", _strings([tag.emotion_name for tag in tags])),
                pb_utils.Tensor("celebrate", _strings([FLAG_WORDS[tag.flag] for tag in tags])),
                pb_utils.Tensor("emotion_scores", np.stack([tag.emotion_scores for tag in tags])),
                pb_utils.Tensor("celebrate_score", np.array([[tag.flag_score] for tag in tags], dtype=np.float32)),
            ]
        )

    def _tag(self, dialogue: Dialogue, strategy: str) -> Tag:
        if strategy not in self._strategies:
            raise InvalidDialogueError(f"strategy is none that this tagger has: give one of {', '.join(self._strategies)}")
        return self._strategies[strategy].tag(self._prompt.encode(dialogue), self._engine)


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
