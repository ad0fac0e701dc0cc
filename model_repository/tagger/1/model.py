"""Triton model `tagger`: strings in, tag out, one or more passes of the engine in between.

This file is the border with Triton: tensors to values and back, errors to gRPC statuses. What is asked and how the answer is read is
`one_pass`; the passes are the model `tensorrt_llm`, called by `engine`; what is counted is in `metrics`. Nothing here logs or counts any
dialogue text.
"""

import gc
import json
import os
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from engine import EngineError, TritonEngine
from metrics import Metrics, Reason
from one_pass import (
    FLAG_WORDS,
    AnswerError,
    Dialogue,
    InvalidDialogueError,
    InvalidJsonError,
    Prompt,
    Tag,
    Task,
    TextCodec,
    make_strategies,
)

_REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (InvalidDialogueError, Reason.INVALID_REQUEST),
    (InvalidJsonError, Reason.INVALID_ANSWER),
    (AnswerError, Reason.ENGINE),
    (EngineError, Reason.ENGINE),
)
"""What an error counts as: the first that fits."""


@dataclass(frozen=True)
class _Question:
    """A row that can be asked."""

    prompt_ids: list[int]
    strategy: str
    made_in_s: float


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load task and tokenizer, which were checked against each other when the repository was assembled."""
        parameters = {name: value["string_value"] for name, value in json.loads(args["model_config"])["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        task = Task.load(folder / "task.toml")
        codec = TextCodec.load(folder / "tokenizer.json")
        tokens_per_block = int(parameters["tokens_per_block"])
        self._prompt = Prompt(task, codec, tokens_per_block)
        self._strategies = make_strategies(self._prompt)
        self._default_strategy = parameters["strategy"]
        self._metrics = Metrics(task.label_names, FLAG_WORDS)
        self._engine = TritonEngine(parameters["engine_decoupled"] == "true", tokens_per_block, self._metrics.passed)
        # Named by who started the server: docs/serving.md. Its absence is asked for in microseconds.
        self._stopping = os.environ.get("PIKA_STOPPING_FILE", "")
        # Everything loaded so far lives as long as the process; the collector need not look at it between requests.
        gc.collect()
        gc.freeze()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself: one that fails does not touch its neighbours."""
        if os.path.exists(self._stopping):  # noqa: PTH110, a Path would take three times as long
            return [_refusal("the server is stopping: ask another one, or this one in a moment", pb_utils.TritonError.UNAVAILABLE)] * len(
                requests
            )
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Stop counting."""
        self._metrics.close()

    def _respond(self, request: Any) -> Any:
        columns = [_column(request, name) for name in ("user_last_message", "pika_response", "pika_last_message", "strategy")]
        n_rows = len(columns[0])
        row, tags, durations_ms = 0, [], []
        try:
            questions = []
            for row in range(n_rows):
                questions.append(self._read(*(column[row] if column else None for column in columns)))
            for row in range(n_rows):
                question, started_s = questions[row], time.perf_counter()
                tags.append(self._strategies[question.strategy].tag(question.prompt_ids, self._engine))
                durations_ms.append((time.perf_counter() - started_s + question.made_in_s) * 1000)
        except Exception as error:  # whatever it is, it is this request's alone
            return self._failure(error, f"row {row + 1} of {n_rows}: " if n_rows > 1 else "")
        for tag, duration_ms in zip(tags, durations_ms, strict=True):
            self._metrics.tagged(tag.emotion_name, tag.flag, duration_ms)
        return _response(tags)

    def _read(self, child: bytes, pika: bytes, before: bytes | None, strategy: bytes | None) -> _Question:
        started_s = time.perf_counter()
        name = self._default_strategy if strategy is None else _text("strategy", strategy)
        if name not in self._strategies:
            raise InvalidDialogueError(f"strategy is none that this tagger has: give one of {', '.join(self._strategies)}")
        dialogue = Dialogue(
            _text("user_last_message", child),
            _text("pika_response", pika),
            None if before is None else _text("pika_last_message", before),
        )
        return _Question(self._prompt.encode(dialogue), name, time.perf_counter() - started_s)

    def _failure(self, error: Exception, where: str) -> Any:
        reason, message = _judged(error)
        self._metrics.failed(reason)
        if reason is Reason.INVALID_ANSWER:
            self._metrics.answered_invalidly()
        code = pb_utils.TritonError.INVALID_ARG if reason is Reason.INVALID_REQUEST else pb_utils.TritonError.INTERNAL
        return _refusal(where + message, code)


def _refusal(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _judged(error: Exception) -> tuple[Reason, str]:
    """What an error counts as, and what the caller is told."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason, str(error)
    # Not its own message, which may quote the dialogue.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
    return Reason.INTERNAL, f"{where}: this is a fault of the tagger, report it"


def _column(request: Any, name: str) -> list[bytes]:
    """The values of an input, one for each row; none if it was not sent."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [] if tensor is None else list(tensor.as_numpy().reshape(-1))


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidDialogueError(f"{name} is not valid UTF-8") from None


def _response(tags: list[Tag]) -> Any:
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("emotion_name", _strings([tag.emotion_name for tag in tags])),
            pb_utils.Tensor("celebrate", _strings([FLAG_WORDS[tag.flag] for tag in tags])),
            pb_utils.Tensor("emotion_scores", np.stack([tag.emotion_scores for tag in tags])),
            pb_utils.Tensor("celebrate_score", np.array([[tag.flag_score] for tag in tags], dtype=np.float32)),
        ]
    )


def _strings(values: list[str]) -> npt.NDArray[np.object_]:
    return np.array([[value.encode()] for value in values], dtype=np.object_)
