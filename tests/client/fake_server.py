"""The scriptable Triton of tests/support with what the whole client asks for: metadata, tensors in the configuration, statistics, TLS."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support import fake_triton
from tests.support.fake_triton import FakeTriton

OPTIONAL = ("pika_last_message", "strategy")
INPUTS = ("user_last_message", "pika_response", *OPTIONAL)
OUTPUTS = ("emotion_name", "celebrate", "emotion_scores", "celebrate_score")


@dataclass
class FakeServer(FakeTriton):
    """The server; `credentials` turn TLS on, `hold` holds answers back; `statistics` are counts and nanoseconds."""

    spoil_config: Callable[[Any], None] = lambda config: None
    credentials: Any = None
    metadata: list[dict[str, str]] = field(default_factory=list)
    statistics: dict[str, tuple[int, int]] = field(default_factory=dict)
    restrict_metadata: bool = False
    cancelled: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._open = threading.Event()
        self._open.set()
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 1 << 26)]
        self._server = grpc.server(self._executor, options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Service(self), self._server)

    def __enter__(self) -> "FakeServer":
        if self.credentials is not None:
            self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", self.credentials)
            self._server.start()
        else:
            super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._open.set()
        super().__exit__(kind, error, traceback)

    def hold(self) -> None:
        """Answer no request until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Answer what has been held back, and everything after it."""
        self._open.set()

    def cut(self) -> None:
        """End all connections, and listen no more."""
        self._server.stop(grace=None)
        self._open.set()

    def infer(self, message: Any, context: Any) -> Any:
        self.metadata.append({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
        self._open.wait()
        self.cancelled += not context.is_active()
        return super().infer(message, context)

    def config(self, message: Any, context: Any) -> Any:
        response = super().config(message, context)
        for name in INPUTS:
            response.config.input.add(name=name, optional=name in OPTIONAL)
        for name in OUTPUTS:
            response.config.output.add(name=name)
        response.config.parameters["task"].string_value = "pika_mood/1"
        response.config.parameters["strategy"].string_value = "codes"
        self.spoil_config(response.config)
        return response


class _Service(fake_triton._Service):
    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  # names are the protocol's
        if isinstance(self._fake, FakeServer) and self._fake.restrict_metadata:
            context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'triton-grpc-protocol-key'")
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

    def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = service_pb2.ModelStatisticsResponse()
        if request.name == self._fake.model_name and isinstance(self._fake, FakeServer):
            found = response.model_stats.add(name=request.name, version="1").inference_stats
            for name, (count, ns) in self._fake.statistics.items():
                getattr(found, name).count, getattr(found, name).ns = count, ns
        return response
