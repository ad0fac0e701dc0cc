"""Task `certificates`: certificates to try TLS and mutual TLS with, made by the command line of openssl.

Not for a service: nobody vouches for them and they end after 30 days. The key of the authority that signs them is thrown away, so that
nothing else can ever be signed with it.
"""

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from build.errors import PipelineError
from build.server_options import LOOPBACK

VALID_DAYS = 30
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make(folder: Path) -> None:
    """Make `folder` anew with the authority's certificate and those of a server and a client, keys included.

    Args:
        folder: gets authority.pem, server.pem, server-key.pem, client.pem and client-key.pem; what was there is gone. The server's
            certificate is for localhost, the name of this machine, the loopback address and that of the default route, if there is one.

    Raises:
        PipelineError: there is no openssl, or it failed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Readable by their owner only, as all that mkdtemp makes.
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _fill(made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fill(folder: Path) -> None:
    authority, authority_key = folder / "authority.pem", folder / "authority-key.pem"
    days = ("-days", str(VALID_DAYS))
    _openssl("req", "-x509", *_CURVE, *days, "-subj", "/CN=Pika Tagger trial", "-keyout", authority_key, "-out", authority)
    names = [*(f"DNS:{name}" for name in ("localhost", socket.gethostname())), *(f"IP:{each}" for each in _addresses())]
    _signed(folder, "server", f"subjectAltName={','.join(names)}", "extendedKeyUsage=serverAuth")
    _signed(folder, "client", "extendedKeyUsage=clientAuth")
    authority_key.unlink()


def _signed(folder: Path, name: str, *extensions: str) -> None:
    """Make a key and its certificate, signed by the authority in `folder`."""
    request, authority = folder / f"{name}.csr", folder / "authority.pem"
    added = [word for each in extensions for word in ("-addext", each)]
    _openssl("req", "-new", *_CURVE, "-subj", f"/CN=pika-{name}", *added, "-keyout", folder / f"{name}-key.pem", "-out", request)
    signer = ("-CA", authority, "-CAkey", folder / "authority-key.pem", "-CAcreateserial", "-CAserial", folder / "serial")
    _openssl("x509", "-req", "-in", request, *signer, "-days", str(VALID_DAYS), "-copy_extensions", "copy", "-out", folder / f"{name}.pem")
    request.unlink()
    (folder / "serial").unlink()


def _addresses() -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing; the address is one of those for documentation (RFC 5737).
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return [LOOPBACK]
        return [LOOPBACK, str(probe.getsockname()[0])]


def _openssl(*arguments: str | Path) -> None:
    try:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PipelineError("there is no openssl, which makes the certificates: apt-get install openssl, version 3 or newer") from None
    if done.returncode != 0:
        raise PipelineError(f"openssl {arguments[0]} failed; version 3 or newer is needed. It says: {done.stderr.strip()}")
