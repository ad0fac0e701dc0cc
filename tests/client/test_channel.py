"""Options of the channel are strings that gRPC ignores if they are misspelt, so their effect is tested, not their presence."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pika_tagger import ServerError, TaggerClient
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


def connections_to(port: int) -> Iterator[socket.socket]:
    """Yield the sockets of this process that are connected to `port`."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            with socket.socket(fileno=os.dup(int(entry.name))) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.getpeername()[1] == port:
                    yield sock
        except OSError:  # not a socket, or not connected
            continue
