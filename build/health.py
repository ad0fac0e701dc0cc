"""Whether a server on this machine gives real tags, with TLS or without. A flag that says "ready" is not asked.

With TLS the tag is asked for over HTTP, which listens on the loopback address then: with mutual TLS this process has no certificate that
the server would accept. That gRPC encrypts is seen in a handshake.
"""

import functools
import http
import http.client
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from build.errors import OverloadedError, ServerError
from build.server_options import LOOPBACK, Access
from build.settings import Ports
from pika_tagger import ServerBusyError, TaggerClient, TaggerError, TaggerTimeoutError

_TIMEOUT_S = 1.0
_COUNT_TIMEOUT_S = 0.25
_SHOWN_BYTES = 200
_PASSES = re.compile(rb'^nv_inference_request_success\{model="tensorrt_llm",[^}]*\} (\d+)', re.MULTILINE)
"""A line of Triton's metrics; the name is from docs/user_guide/metrics.md of triton-inference-server/server. Not that of the tagger: a
request that a Python model answers with an error counts as a success."""
_LINE = {"user_last_message": "Hello.", "pika_response": "Let us sit down for a while."}
# Not through a proxy that happens to be in the environment.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def reached_at(allowed: Access, ports: Ports) -> str:
    """HOST:PORT of the gRPC endpoint, seen from this machine."""
    return f"{_seen_from_here(allowed.address)}:{ports.grpc_port}"


@contextmanager
def probing(allowed: Access, ports: Ports) -> Iterator[Callable[[], None]]:
    """A function that asks for one tag of a neutral line.

    If none comes within about a second, it raises OverloadedError if the server may only have too much to do, and else ServerError.
    """
    if allowed.tls is None:
        with TaggerClient(reached_at(allowed, ports), timeout_s=_TIMEOUT_S) as client:
            yield functools.partial(_over_grpc, client)
    else:
        yield functools.partial(_beside_tls, reached_at(allowed, ports), ports)


def _over_grpc(client: TaggerClient) -> None:
    try:
        client.health()
    except (ServerBusyError, TaggerTimeoutError) as error:
        raise OverloadedError(str(error)) from None
    except TaggerError as error:
        raise ServerError(str(error)) from None


def _beside_tls(url: str, ports: Ports) -> None:
    host, _, port = url.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whether robots trust the certificate is not known here; that there is one is what is asked.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_S) as plain, context.wrap_socket(plain):
            pass
        address = f"http://{LOOPBACK}:{ports.http_port}/v2/models/tagger/generate"
        with _OPENER.open(address, json.dumps(_LINE).encode(), timeout=_TIMEOUT_S) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            kind = OverloadedError if error.code == http.HTTPStatus.SERVICE_UNAVAILABLE else ServerError
            raise kind(f"no tag from {url}: {error}, {error.read(_SHOWN_BYTES).decode(errors='replace')}") from None
    except TimeoutError as error:
        raise OverloadedError(f"no tag from {url}: {error}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerError(f"no tag from {url}: {error}") from None
    if not answer.get("emotion_name"):
        raise ServerError(f"the answer of {url} is no tag")


def requests_done(allowed: Access, ports: Ports) -> int | None:
    """How many requests the engine has done since the server started, whoever's they were, or None if the server does not say soon."""
    url = f"http://{_seen_from_here(allowed.plain_address)}:{ports.metrics_port}/metrics"
    try:
        with _OPENER.open(url, timeout=_COUNT_TIMEOUT_S) as response:
            found = _PASSES.search(response.read())
    except (OSError, http.client.HTTPException):
        return None
    return int(found[1]) if found else None


def _seen_from_here(address: str) -> str:
    return LOOPBACK if address == "0.0.0.0" else address
