"""Who may reach the server, and how: addresses, TLS, and the key of what is not for robots; as settings of `doit`, checked, and as flags.

Nothing here starts anything. A new way in is added here, with a test in tests/e2e/test_security.py that tries to get in without permission.
"""

import ipaddress
import re
import secrets
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from build.errors import SettingError
from build.settings import Ports

LOOPBACK = "127.0.0.1"
KEY_NAME = "admin-key"
"""A caller of a restricted protocol sends the key as the HTTP header of this name, or over gRPC as `GRPC_KEY_HEADER`."""
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_NAME}"
"""The prefix is Triton's: docs/customization_guide/inference_protocols.md of triton-inference-server/server."""
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging", "statistics")
"""What a robot never needs, by the names that --grpc-restricted-protocol and --http-restricted-api have for it."""

_KEY = re.compile(r"[A-Za-z0-9_-]{20,200}")


@dataclass(frozen=True)
class Tls:
    """PEM files that tritonserver reads when it starts."""

    certificate: Path
    """The server's, followed by those of intermediate authorities, if any."""
    private_key: Path
    """Of the certificate, without a password."""
    client_authority: Path | None = None
    """Who signs the certificates of clients. If set, only they get in (mutual TLS)."""


@dataclass(frozen=True)
class Access:
    """How the server can be reached; by default from this machine only, and nobody knows the key of the restricted protocols."""

    address: str = LOOPBACK
    """IPv4 address that gRPC listens on."""
    tls: Tls | None = None
    """Of gRPC; Triton has none for anything else."""
    admin_key: str = field(default_factory=secrets.token_urlsafe, repr=False)

    @property
    def plain_address(self) -> str:
        """Address that HTTP and metrics listen on: never a public one where encryption was asked for."""
        return self.address if self.tls is None else LOOPBACK


def access(*, address: str, insecure: bool, certificate: str, private_key: str, client_authority: str, admin_key_file: str) -> Access:
    """Settings as they were given, empty if they were not.

    Args:
        address: IPv4 address to listen on.
        insecure: an address that others can reach is wanted without TLS.
        certificate: see `Tls`; likewise the next two.
        private_key: with `certificate`, always.
        client_authority: for mutual TLS.
        admin_key_file: a file with the key of the restricted protocols, 20 characters or more. Without it the key is a random one.

    Raises:
        SettingError: they contradict each other, a file is not what it should be, or others could listen in and nobody has allowed it.
    """
    try:
        public = not ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        raise SettingError(
            f"address={address} is not an IPv4 address: give {LOOPBACK}, 0.0.0.0 for all, or one of this machine's"
        ) from None
    tls = _tls(certificate, private_key, client_authority)
    if tls is not None and insecure:
        raise SettingError("insecure=yes allows to listen without TLS, and tls_certificate= asks for TLS: take one of them back")
    if public and tls is None and not insecure:
        raise SettingError(
            f"address={address} can be reached from other machines, and what children say would go there unencrypted: give "
            "tls_certificate= and tls_key= (`doit certificates` makes some for trials), or insecure=yes in a network that you trust, "
            "see docs/security.md"
        )
    return Access(address, tls, _key(Path(admin_key_file))) if admin_key_file else Access(address, tls)


def flags(allowed: Access, ports: Ports) -> list[str]:
    """The flags of tritonserver for it."""
    closed = ",".join(RESTRICTED)
    return [
        f"--grpc-address={allowed.address}",
        f"--grpc-port={ports.grpc_port}",
        f"--http-address={allowed.plain_address}",
        f"--http-port={ports.http_port}",
        f"--metrics-address={allowed.plain_address}",
        f"--metrics-port={ports.metrics_port}",
        "--model-control-mode=none",
        f"--grpc-restricted-protocol={closed}:{KEY_NAME}={allowed.admin_key}",
        f"--http-restricted-api={closed}:{KEY_NAME}={allowed.admin_key}",
        *(_tls_flags(allowed.tls) if allowed.tls else []),
    ]


def _tls_flags(tls: Tls) -> list[str]:
    mutual = ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={tls.client_authority}"] if tls.client_authority else []
    return ["--grpc-use-ssl=true", f"--grpc-server-cert={tls.certificate}", f"--grpc-server-key={tls.private_key}", *mutual]


def _tls(certificate: str, private_key: str, client_authority: str) -> Tls | None:
    if bool(certificate) != bool(private_key):
        raise SettingError("tls_certificate= and tls_key= belong together: give both")
    if not certificate:
        if client_authority:
            raise SettingError(
                "tls_clients= says whose clients may come, which needs a server with TLS: give tls_certificate= and tls_key="
            )
        return None
    tls = Tls(_path(certificate), _path(private_key), _path(client_authority) if client_authority else None)
    # What tritonserver says about a file that it cannot use names neither the file nor the reason.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.private_key, password="")
    except (OSError, ValueError) as error:
        raise SettingError(
            f"tls_certificate={certificate} with tls_key={private_key} cannot be used ({_reason(error)}): give PEM files that can be read, "
            "of a certificate and of the key that belongs to it, without a password"
        ) from None
    if tls.client_authority:
        try:
            context.load_verify_locations(tls.client_authority)
        except (OSError, ValueError) as error:
            raise SettingError(
                f"tls_clients={client_authority} cannot be used ({_reason(error)}): give a PEM file with certificates"
            ) from None
    return tls


def _path(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)


def _key(file: Path) -> str:
    try:
        key = file.expanduser().read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingError(f"admin_key_file={file} cannot be read ({_reason(error)}): give a text file with the key") from None
    if not _KEY.fullmatch(key):
        raise SettingError(
            f"admin_key_file={file} has no key of 20 to 200 letters, digits, - and _ in it: make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return key
