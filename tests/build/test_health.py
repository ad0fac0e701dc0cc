"""A tag that does not come is told from one for which the server only has too much to do; work done is read from Triton's metrics."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from build import health
from build.errors import OverloadedError, ServerError
from build.ports import free_ports
from build.server_options import Access
from build.settings import Ports
from tests.support.fake_triton import FakeTriton

# As Triton 2.51 prints them.
METRICS = b"""\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="tagger",version="1"} 7
nv_inference_request_success{model="tensorrt_llm",version="1"} 5
nv_inference_request_failure{model="tensorrt_llm",reason="OTHER",version="1"} 2
"""


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    with FakeTriton() as server:
        yield server


def ports_of(triton: FakeTriton) -> Ports:
    return replace(free_ports(), grpc_port=triton.port)


def test_a_tag_is_all_it_wants(triton: FakeTriton) -> None:
    with health.probing(Access(), ports_of(triton)) as probe:
        probe()
    assert len(triton.requests) == 1


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", OverloadedError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", OverloadedError),
        ("INTERNAL", "the engine failed: Stub process 'tensorrt_llm_0_0' is not healthy.", ServerError),
        ("UNAVAILABLE", "Socket closed", ServerError),
    ],
)
def test_too_much_to_do_is_told_from_a_failure(triton: FakeTriton, status: str, details: str, kind: type[ServerError]) -> None:
    triton.fail_with(status, details)
    with health.probing(Access(), ports_of(triton)) as probe, pytest.raises(ServerError) as caught:
        probe()
    assert type(caught.value) is kind


class Metrics(http.server.BaseHTTPRequestHandler):
    """Answers with what its server has as `text`."""

    def do_GET(self) -> None:
        text: bytes = self.server.text  # type: ignore[attr-defined]
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(("text", "done"), [(METRICS, 5), (METRICS.replace(b"tensorrt_llm", b"other"), None), (b"", None)])
def test_requests_done_are_those_that_the_engine_has_done(text: bytes, done: int | None) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Metrics) as server:
        server.text = text  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert health.requests_done(Access(), Ports(1, 2, server.server_port)) == done
        thread.join()


def test_without_a_server_nothing_is_told() -> None:
    assert health.requests_done(Access(), free_ports()) is None
