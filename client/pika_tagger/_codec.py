"""Requests and answers, without any input or output of its own.

The tensor names are those of the Triton model `tagger`; they change here and there together.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from pika_tagger._errors import InvalidRequestError, ServerError
from pika_tagger._statuses import Target
from pika_tagger._types import Tag

LABELS_PARAMETER = "labels"
_ROUNDING = 1e-3

_Outputs = dict[str, tuple[Any, bytes]]
"""The description and the raw content of each output, by name."""


def texts_of(user_last_message: str, pika_response: str, pika_last_message: str | None = None) -> dict[str, str]:
    """Return the texts by tensor name, the optional one only if it is given.

    Raises:
        InvalidRequestError: One of them is not a string.
    """
    texts: dict[str, Any] = {"user_last_message": user_last_message, "pika_response": pika_response}
    if pika_last_message is not None:
        texts["pika_last_message"] = pika_last_message
    for name, text in texts.items():
        if not isinstance(text, str):
            raise InvalidRequestError(f"{name} is of type {type(text).__name__}: give a str, an empty one if nothing was said")
    return texts


def checked_strategy(strategy: str | None) -> str | None:
    """Return `strategy`; which ones there are is for the server to say.

    Raises:
        InvalidRequestError: It is no string.
    """
    if strategy is not None and not isinstance(strategy, str):
        raise InvalidRequestError(f"strategy is of type {type(strategy).__name__}: give a str, or None for the server's own choice")
    return strategy


def encode(model_name: str, texts: Mapping[str, str], strategy: str | None = None) -> Any:
    """Return a `ModelInferRequest` with `texts`, and the strategy if there is one, as a batch of one: BYTES tensors of shape [1, 1].

    An element is its length as four bytes, low byte first, and the bytes themselves
    (raw_input_contents in tritonclient's grpc_service.proto). A lone surrogate, which speech recognition or a broken pipe may leave in a
    str, has no UTF-8 form: it is sent as `?`, because a robot must not stumble over one odd character.
    """
    request = service_pb2.ModelInferRequest(model_name=model_name)
    for name, text in (texts if strategy is None else {**texts, "strategy": strategy}).items():
        content = text.encode("utf-8", "replace")
        request.inputs.add(name=name, datatype="BYTES", shape=(1, 1))
        request.raw_input_contents.append(struct.pack("<I", len(content)) + content)
    return request


@dataclass(frozen=True)
class Answer:
    """The four outputs, checked as far as possible without knowing the labels."""

    emotion_name: str
    celebrate: bool
    emotion_scores: tuple[float, ...]
    celebrate_score: float

    def fits(self, labels: tuple[str, ...]) -> bool:
        """Return whether this answer can come from a tagger with these labels."""
        return len(self.emotion_scores) == len(labels) and self.emotion_name in labels

    def to_tag(self, labels: tuple[str, ...], latency_ms: float, target: Target) -> Tag:
        """Return the answer with a name for every score."""
        if not self.fits(labels):
            raise _garbage(target, f"{len(self.emotion_scores)} scores and an emotion do not fit its {len(labels)} labels")
        scores = dict(zip(labels, self.emotion_scores, strict=True))
        return Tag(self.emotion_name, self.celebrate, scores, self.celebrate_score, latency_ms)


def decode(response: Any, target: Target) -> Answer:
    """Return the outputs in a `ModelInferResponse`, whose tensors lie as raw bytes in the order of their descriptions.

    Raises:
        ServerError: They are not those of a tagger.
    """
    if len(response.outputs) != len(response.raw_output_contents):
        raise _garbage(target, "outputs are missing or cannot be read")
    outputs = {each.name: (each, raw) for each, raw in zip(response.outputs, response.raw_output_contents, strict=True)}
    celebrate = _text(outputs, "celebrate", target)
    if celebrate not in ("yes", "no"):
        raise _garbage(target, "output celebrate is neither yes nor no")
    return Answer(
        emotion_name=_text(outputs, "emotion_name", target),
        celebrate=celebrate == "yes",
        emotion_scores=_probabilities(outputs, "emotion_scores", target),
        celebrate_score=_probabilities(outputs, "celebrate_score", target, count=1)[0],
    )


def labels_of(config: Any, target: Target) -> tuple[str, ...]:
    """Return the labels that a `ModelConfig` lists, in the order of its scores.

    Raises:
        ServerError: It lists none, or one twice.
    """
    listed = parameter(config, LABELS_PARAMETER) or ""
    labels = tuple(label.strip() for label in listed.split(",") if label.strip())
    if not labels or len(set(labels)) < len(labels):
        raise ServerError(
            f"{target} has no usable parameter {LABELS_PARAMETER!r} in its configuration, so it is no tagger of this project: "
            "check model_name and the server's model repository"
        )
    return labels


def parameter(config: Any, name: str) -> str | None:
    """Return a parameter of a `ModelConfig`, or None."""
    return config.parameters[name].string_value if name in config.parameters else None


def _text(outputs: _Outputs, name: str, target: Target) -> str:
    """Return the only element of a BYTES tensor of shape [1, 1]: its length as four bytes, and so many bytes of UTF-8."""
    output, raw = _output(outputs, name, target)
    if output.datatype != "BYTES" or list(output.shape) != [1, 1] or raw[:4] != struct.pack("<I", max(len(raw) - 4, 0)):
        raise _garbage(target, f"output {name} is not one string")
    try:
        return raw[4:].decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise _garbage(target, f"output {name} is not UTF-8")


def _probabilities(outputs: _Outputs, name: str, target: Target, count: int | None = None) -> tuple[float, ...]:
    """Return an FP32 tensor of shape [1, count], low byte first, if all of it are probabilities."""
    output, raw = _output(outputs, name, target)
    shape = list(output.shape)
    if output.datatype != "FP32" or shape != [1, count or len(raw) // 4] or len(raw) != 4 * shape[1]:
        raise _garbage(target, f"output {name} has the wrong shape or type")
    values = struct.unpack(f"<{shape[1]}f", raw)
    if not all(0 <= value <= 1 + _ROUNDING for value in values):  # also catches NaN
        raise _garbage(target, f"output {name} is not a probability")
    return values


def _output(outputs: _Outputs, name: str, target: Target) -> tuple[Any, bytes]:
    if name not in outputs:
        raise _garbage(target, f"output {name} is missing")
    return outputs[name]


def _garbage(target: Target, what: str) -> ServerError:
    return ServerError(f"{target} sent what a tagger does not send ({what}): check that client and server are of the same release")
