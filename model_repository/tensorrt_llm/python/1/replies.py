"""Triton's side of an answer: values to tensors, errors to gRPC statuses, and the sender that answers when it is time.

Used by every `tensorrt_llm` that is a Python model. Nothing here logs token ids or text.
"""

from dataclasses import dataclass
from typing import Any

import triton_python_backend_utils as pb_utils

import tensors
from engine_request import BusyError, InvalidRequestError
from progress import Progress


@dataclass(frozen=True)
class Replies:
    """What answers have in common."""

    engine_name: str
    """What failed, in messages."""
    tokens_per_block: int
    """Size of the KV-cache blocks that are counted."""

    def response(self, asked: tensors.Asked, generation: Progress, n_sent: int) -> Any:
        """Tensors, as `tensors.write` says."""
        arrays = tensors.write(asked, generation, n_sent, self.tokens_per_block)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in arrays.items()])

    def failure(self, error: Exception) -> Any:
        """A status and a message."""
        if isinstance(error, InvalidRequestError):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        if isinstance(error, BusyError):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.UNAVAILABLE))
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{self.engine_name} failed: {error}", pb_utils.TritonError.INTERNAL))


def send_last(request: Any, response: Any) -> None:
    """Answer a request once and for all."""
    request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def to_stop(request: Any, inputs: tensors.Arrays) -> str | None:
    """The request id of the generation that a request wants to stop; None if it wants something else.

    Raises:
        InvalidRequestError: it does not say which one.
    """
    if not tensors.asks_to_stop(inputs):
        return None
    if not request.request_id():
        raise InvalidRequestError("stop needs the request id of the generation to stop")
    name: str = request.request_id()
    return name


class Reply:
    """`progress.Caller` on a response sender of Triton."""

    def __init__(self, request: Any, asked: tensors.Asked, replies: Replies) -> None:
        """Take the request's sender; the request itself may be gone by the time of the answer."""
        self._sender, self._asked, self._replies = request.get_response_sender(), asked, replies
        self._n_sent = 0
        self._cancelled = False
        self._closed = False

    def advanced(self, generation: Progress) -> None:
        """As `progress.Caller` says."""
        if generation.finished or self._asked.streaming:
            self._send(self._replies.response(self._asked, generation, self._n_sent), final=generation.finished)
            self._n_sent = len(generation.tokens)

    def stopped(self, generation: Progress | None) -> None:
        """As `progress.Caller` says."""
        if self._cancelled:
            error = pb_utils.TritonError("the request was cancelled", pb_utils.TritonError.CANCELLED)
            self._send(pb_utils.InferenceResponse(error=error), final=True)
        elif generation is None:
            self._send(pb_utils.InferenceResponse([]), final=True)
        else:
            self._send(self._replies.response(self._asked, generation, self._n_sent), final=True)

    def failed(self, error: Exception) -> None:
        """As `progress.Caller` says."""
        self._send(self._replies.failure(error), final=True)

    def gave_up(self) -> bool:
        """As `progress.Caller` says."""
        self._cancelled = self._sender.is_cancelled()
        return self._cancelled

    def _send(self, response: Any, final: bool) -> None:
        if not self._closed:
            self._closed = final
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)
