"""The one place where the connection to the servers is made.

Whatever concerns the transport belongs here and nowhere else: addresses, options, balancing, certificates.
"""

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]

from pika_tagger._errors import InvalidSettingError

MAX_MESSAGE_BYTES = 1 << 20
"""Limit of one request and one answer: a dialogue is a few hundred bytes, the model's configuration a few thousand."""

# Without a `retryPolicy`, gRPC repeats only what no server has seen; what else is repeated is decided in `_retry`.
_SERVICE_CONFIG: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A service config that a name server hands out must not undo the one above.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Triton counts pings closer than 5 minutes as abuse and hangs up after the third ("too_many_pings"), hence a longer period. Its real
    # use is the timeout: once keepalive is on, gRPC also gives up a connection on which sent bytes stay unacknowledged that long
    # (TCP_USER_TIMEOUT). A robot that changes its network is connected again after 5 s instead of a quarter of an hour.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # gRPC's own pauses between attempts grow to 2 minutes: too long for a child who waits for a restarted server. It adds jitter itself.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A server that comes back under another address is looked up again after a second, not after half a minute.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Dialogues go to the given addresses only, not through a proxy that happens to be in the environment.
    ("grpc.enable_http_proxy", 0),
)

_ADDRESS = re.compile(r"(?:dns:///)?(\[[0-9a-fA-F:.]+\]|[^\s/:\[\],]+):(\d{1,5})")


@dataclass(frozen=True)
class Tls:
    """Encryption, and with `private_key` and `certificate_chain` also proof of who the robot is (mutual TLS).

    Attributes:
        root_certificates: PEM file of the authorities to trust; None for those that gRPC brings along.
        private_key: PEM file of the robot's key.
        certificate_chain: PEM file of the robot's certificate.
        server_name: The name in the servers' certificate, where it is not the host in the url; needed with a list of addresses.
    """

    root_certificates: str | PathLike[str] | None = None
    private_key: str | PathLike[str] | None = None
    certificate_chain: str | PathLike[str] | None = None
    server_name: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where the servers are and how to speak to them, checked; `open` and `open_async` connect with the first call.

    Attributes:
        target: gRPC's name for the servers: `dns:///HOST:PORT`, `ipv4:A:PORT,B:PORT` or `ipv6:...`
            (https://github.com/grpc/grpc/blob/master/doc/naming.md).
    """

    target: str
    _options: tuple[tuple[str, int | str], ...] = field(repr=False)
    _pem: dict[str, bytes | None] | None = field(repr=False)

    @classmethod
    def of(cls, url: str | Sequence[str], tls: Tls | None) -> "Endpoint":
        """Return the endpoint of one HOST:PORT or of several addresses.

        Raises:
            InvalidSettingError: An address or a certificate cannot work; the message says which and why.
        """
        target = _one(url) if isinstance(url, str) else _several(url)
        if tls is None:
            return cls(target, OPTIONS, None)
        if (tls.private_key is None) != (tls.certificate_chain is None):
            raise InvalidSettingError("tls has only one of private_key and certificate_chain: give both, or none without mutual TLS")
        if tls.server_name is None and not isinstance(url, str) and len(url) > 1:
            raise InvalidSettingError("tls with several addresses needs server_name, the name that stands in the servers' certificates")
        pem = {name: _read(name, getattr(tls, name)) for name in ("root_certificates", "private_key", "certificate_chain")}
        name = tls.server_name
        return cls(target, OPTIONS if name is None else (*OPTIONS, ("grpc.ssl_target_name_override", name)), pem)

    def open(self) -> Any:
        """Return a `grpc.Channel`."""
        if self._pem is None:
            return grpc.insecure_channel(self.target, options=self._options)
        return grpc.secure_channel(self.target, grpc.ssl_channel_credentials(**self._pem), options=self._options)

    def open_async(self) -> Any:
        """Return a `grpc.aio.Channel` of the running event loop."""
        if self._pem is None:
            return grpc.aio.insecure_channel(self.target, options=self._options)
        return grpc.aio.secure_channel(self.target, grpc.ssl_channel_credentials(**self._pem), options=self._options)


def _one(url: str) -> str:
    return "dns:///" + ":".join(_host_and_port(url))


def _several(urls: Sequence[str]) -> str:
    """Return the target of several addresses, which gRPC takes as numbers of one family only, or as one name."""
    if not urls:
        raise InvalidSettingError("url is an empty list: give at least one HOST:PORT")
    found = dict.fromkeys(_host_and_port(url) for url in urls)
    if len(found) == 1:
        return _one(urls[0])
    try:
        versions = {ipaddress.ip_address(host.strip("[]")).version for host, _ in found}
    except ValueError as error:
        raise InvalidSettingError(
            f"a list of urls takes IP addresses ({error}): give addresses such as 10.0.0.5:8001, or one DNS name for all servers"
        ) from None
    if len(versions) > 1:
        raise InvalidSettingError("the urls mix IPv4 and IPv6: give addresses of one kind, or one DNS name that stands for all servers")
    return f"ipv{versions.pop()}:" + ",".join(":".join(address) for address in found)


def _host_and_port(url: str) -> tuple[str, str]:
    match = _ADDRESS.fullmatch(url) if isinstance(url, str) else None
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise InvalidSettingError(
            f"url {url!r} cannot work: give HOST:PORT of Triton's gRPC endpoint, for example localhost:8001 "
            "(without http://, and not the HTTP port, which is 8000 by default), or a list of such addresses"
        )
    return match[1], match[2]


def _read(name: str, path: str | PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidSettingError(f"tls.{name} {path} cannot be read ({error.strerror}): give a PEM file") from None
    if b"-----BEGIN " not in content:
        raise InvalidSettingError(f"tls.{name} {path} is no PEM file: convert it, for example with openssl")
    return content
