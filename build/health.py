"""Whether a server on this machine gives real tags, with TLS or without. A flag that says "ready" is not asked.

With TLS the tag is asked for over HTTP, which listens on the loopback address then: with mutual TLS this process has no certificate that
the server would accept. That gRPC encrypts is seen in a handshake.
"""

import functools
import http.client
import json
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from build.errors import ServerError
from build.server_options import LOOPBACK, Access
from build.settings import Ports
from pika_tagger import TaggerClient

_TIMEOUT_S = 1.0
_LINE = {"user_last_message": "Hello.", "pika_response": "Let us sit down for a while."}
# Not through a proxy that happens to be in the environment.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def reached_at(allowed: Access, ports: Ports) -> str:
    """HOST:PORT of the gRPC endpoint, seen from this machine."""
    return f"{LOOPBACK if allowed.address == '0.0.0.0' else allowed.address}:{ports.grpc_port}"


@contextmanager
def probing(allowed: Access, ports: Ports) -> Iterator[Callable[[], object]]:
    """A function that asks for one tag of a neutral line, and raises TaggerError or ServerError if none comes within about a second."""
    if allowed.tls is None:
        with TaggerClient(reached_at(allowed, ports)) as client:
            yield functools.partial(client.wait_until_ready, timeout_s=_TIMEOUT_S)
    else:
        yield functools.partial(_beside_tls, reached_at(allowed, ports), ports)


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
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerError(f"no tag from {url}: {error}") from None
    if not answer.get("emotion_name"):
        raise ServerError(f"the answer of {url} is no tag")
