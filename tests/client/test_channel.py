"""Options of the channel are strings that gRPC ignores if they are misspelt, so their effect is tested, not their presence."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from pika_tagger import InvalidSettingError, ServerError, TaggerClient
from pika_tagger._channel import OPTIONS, Endpoint
from tests.client.fake_server import FakeServer
from tests.client.test_budget import wait_for
from tests.client.twins import Make
from tests.support.fake_triton import LABELS, FakeTriton, free_port


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT and /proc are Linux's")
def test_a_connection_is_given_up_after_5_s_without_acknowledgement(server: FakeTriton, tagger: TaggerClient) -> None:
    tagger.health()
    timeouts_ms = {sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for sock in connections_to(server.port)}
    assert timeouts_ms == {5_000}


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_dialogues_take_no_detour_over_a_proxy(make: Make, server: FakeTriton, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    with make(server.url, timeout_s=5.0) as tagger:
        assert tagger.health().emotion_name == "proud"


def test_an_answer_beyond_the_message_limit_is_a_server_error(server: FakeTriton, tagger: TaggerClient) -> None:
    server.labels = (*LABELS, "x" * (1 << 20))
    with pytest.raises(ServerError, match="larger than max"):
        tagger.health()


def test_every_option_has_a_name_that_grpc_knows() -> None:
    library = b"".join(path.read_bytes() for path in Path(grpc.__file__).parent.glob("_cython/*.so"))
    assert [name for name, _ in OPTIONS if name.encode() not in library] == []


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("gpu-box:8001", "dns:///gpu-box:8001"),
        ("dns:///tagger.pika.svc:8001", "dns:///tagger.pika.svc:8001"),
        (["gpu-box:8001"], "dns:///gpu-box:8001"),
        (["10.0.0.5:8001", "10.0.0.6:9001"], "ipv4:10.0.0.5:8001,10.0.0.6:9001"),
        (["10.0.0.5:8001", "10.0.0.5:8001"], "dns:///10.0.0.5:8001"),
        (("[::1]:8001", "[fd00::2]:8001"), "ipv6:[::1]:8001,[fd00::2]:8001"),
    ],
)
def test_addresses_become_the_target_that_grpc_understands(url: str | list[str], target: str) -> None:
    assert Endpoint.of(url, None).target == target


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ([], "empty list"),
        (["10.0.0.5:8001", "gpu-box:8001"], "one DNS name for all servers"),
        (["10.0.0.5:8001", "[::1]:8001"], "mix IPv4 and IPv6"),
        (["10.0.0.5:8001", "10.0.0.6"], "give HOST:PORT"),
        ("10.0.0.5:8001,10.0.0.6:8001", "give HOST:PORT"),
        ("gpu-box:0", "give HOST:PORT"),
        ("gpu-box:65536", "give HOST:PORT"),
        ([7], "give HOST:PORT"),
    ],
)
def test_addresses_that_cannot_work_are_refused_at_once(make: Make, url: str | list[str], message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        make(url)


def test_requests_take_turns_among_several_servers(make: Make) -> None:
    with FakeServer() as one, FakeServer() as other, make([one.url, other.url], timeout_s=5.0) as tagger:
        wait_for(lambda: bool(tagger.health() and one.requests and other.requests))  # until both are connected
        before = len(one.requests), len(other.requests)
        for _ in range(20):
            tagger.health()
        assert (len(one.requests) - before[0], len(other.requests) - before[1]) == (10, 10)


def test_a_server_that_says_unavailable_loses_no_tag_to_one_that_does_not(make: Make) -> None:
    with FakeServer() as ill, FakeServer() as well, make([ill.url, well.url], on_failure="fallback", budget_ms=10_000) as tagger:
        wait_for(lambda: bool(tagger.health() and ill.requests and well.requests))
        ill.fail_with("UNAVAILABLE", "Server is stopping")
        assert [tagger.tag(user_last_message="a", pika_response="b").fallback for _ in range(30)] == [False] * 30


def connections_to(port: int) -> Iterator[socket.socket]:
    """Yield the sockets of this process that are connected to `port`."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            with socket.socket(fileno=os.dup(int(entry.name))) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.getpeername()[1] == port:
                    yield sock
        except OSError:  # not a socket, or not connected
            continue
