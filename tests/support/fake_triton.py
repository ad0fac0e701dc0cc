"""A scriptable stand-in for tritonserver with the model `tagger`, on a real gRPC port.

It speaks the KServe v2 protocol that tritonclient speaks, answers at once, and can be told to fail, to dawdle or to talk nonsense.
Only what the tests ask of it is here; what the real server does is the business of tests/e2e.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2, service_pb2_grpc

LABELS = (
    "happy",
    "calm",
    "excited",
    "playful",
    "encouraging",
    "curious",
    "surprised",
    "proud",
    "sad",
    "thats_right",
    "worry",
    "thinking",
    "celebration",
)


@dataclass(frozen=True)
class Request:
    """What arrived, as raw as a test may want it."""

    texts: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    datatypes: Mapping[str, str]
    arrived_s: float


@dataclass(frozen=True)
class Reply:
    """What the model says."""

    emotion_name: str = "proud"
    celebrate: str = "yes"
    emotion_scores: tuple[float, ...] = (0.01,) * 7 + (0.88,) + (0.01,) * 3 + (0.005, 0.005)
    celebrate_score: float = 0.875


def reply_with(emotion_name: str, celebrate: str = "no", confidence: float = 0.75) -> Reply:
    """Return a reply that gives `confidence` to its emotion and shares the rest evenly."""
    rest = (1 - confidence) / (len(LABELS) - 1)
    scores = tuple(confidence if label == emotion_name else rest for label in LABELS)
    return Reply(emotion_name, celebrate, scores, 0.875 if celebrate == "yes" else 0.125)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class FakeTriton:
    """The server; its attributes may be changed while it runs.

    `reply` makes the answer to a request, `spoil` may then damage the message, `delay_s` holds every answer back.
    """

    port: int = 0
    model_name: str = "tagger"
    labels: tuple[str, ...] | None = LABELS
    reply: Callable[[Request], Reply] = lambda request: Reply()
    spoil: Callable[[Any], None] = lambda response: None
    delay_s: float = 0.0
    requests: list[Request] = field(default_factory=list)
    config_requests: int = 0

    def __post_init__(self) -> None:
        self._failure: tuple[Any, str] | None = None
        self._failures_left: float = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=32)
        self._server = grpc.server(self._executor, options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 1 << 26)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Service(self), self._server)

    def __enter__(self) -> "FakeTriton":
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stopping.set()
        self._server.stop(grace=None).wait()
        self._executor.shutdown()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def fail_with(self, status: str, details: str, times: float = float("inf")) -> None:
        """Answer the next requests to the model with a gRPC status such as "INTERNAL"."""
        self._failure, self._failures_left = (getattr(grpc.StatusCode, status), details), times

    def infer(self, message: Any, context: Any) -> Any:
        """Answer one ModelInfer."""
        request = _request(message)
        with self._lock:
            self.requests.append(request)
            failing = self._failures_left > 0
            self._failures_left -= failing
        self._stopping.wait(self.delay_s)
        if self._failure is not None and failing:
            context.abort(*self._failure)
        if message.model_name != self.model_name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{message.model_name}' is not found")
        response = _response(self.model_name, self.reply(request))
        self.spoil(response)
        return response

    def config(self, message: Any, context: Any) -> Any:
        """Answer one ModelConfig."""
        with self._lock:
            self.config_requests += 1
        if message.name != self.model_name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{message.name}' is not found")
        response = service_pb2.ModelConfigResponse()
        response.config.name = self.model_name
        if self.labels is not None:
            response.config.parameters["labels"].string_value = ",".join(self.labels)
        return response


class _Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # the base class is generated, without types
    def __init__(self, fake: FakeTriton) -> None:
        self._fake = fake

    def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802  # names are the protocol's
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=request.name == self._fake.model_name)

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._fake.config(request, context)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._fake.infer(request, context)


def _request(message: Any) -> Request:
    texts = {}
    for tensor, raw in zip(message.inputs, message.raw_input_contents, strict=True):
        (length,) = struct.unpack_from("<I", raw)
        assert len(raw) == 4 + length, "one string per tensor"
        texts[tensor.name] = raw[4:].decode("utf-8")
    return Request(
        texts=texts,
        shapes={tensor.name: tuple(tensor.shape) for tensor in message.inputs},
        datatypes={tensor.name: tensor.datatype for tensor in message.inputs},
        arrived_s=time.monotonic(),
    )


def _response(model_name: str, reply: Reply) -> Any:
    response = service_pb2.ModelInferResponse(model_name=model_name, model_version="1")
    for name in ("emotion_name", "celebrate"):
        add_output(response, name, "BYTES", (1, 1), string_tensor(getattr(reply, name).encode()))
    add_output(response, "emotion_scores", "FP32", (1, len(reply.emotion_scores)), float_tensor(*reply.emotion_scores))
    add_output(response, "celebrate_score", "FP32", (1, 1), float_tensor(reply.celebrate_score))
    return response


def add_output(response: Any, name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> None:
    """Append one output tensor to a ModelInferResponse."""
    response.outputs.add(name=name, datatype=datatype, shape=shape)
    response.raw_output_contents.append(raw)


def string_tensor(value: bytes) -> bytes:
    """Return a BYTES tensor of one element."""
    return struct.pack("<I", len(value)) + value


def float_tensor(*values: float) -> bytes:
    """Return an FP32 tensor."""
    return struct.pack(f"<{len(values)}f", *values)
