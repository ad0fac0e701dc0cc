"""The server of the container, watched: `python -m build.serve_container tritonserver FLAG...`, called by docker/entrypoint.sh.

Docker is what starts things again there, with pauses of its own. It does so only when the container ends, and a server whose engine or
tagger has died does not end. So it is ended here; when that is due is `watch`. FLAGs must name the model repository and
the ports of gRPC and metrics; where they turn TLS on, also that of HTTP, over which tags are asked for then.
"""

import math
import os
import sys
import tempfile
from pathlib import Path

from build import triton
from build.errors import ServerError, SettingError
from build.interrupts import interruptible, uninterrupted
from build.repository import served_tagger_instances
from build.serve import Server, start_process
from build.server_options import Access, Tls
from build.settings import Ports

_FAILED = 1


def main(command: list[str]) -> int:
    """Run the command until it ends, is told to (SIGTERM, SIGINT, SIGHUP) or has failed; return the container's exit status."""
    try:
        access, ports = reached(command)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return _FAILED
    tagger_instances = served_tagger_instances(Path(_flags(command)["--model-repository"]))
    with interruptible(), tempfile.TemporaryDirectory(prefix="pika-tritonserver-") as folder:
        scratch = Path(folder)
        environment = os.environ | {triton.STOPPING_FILE: str(triton.stopping_file(scratch))}
        is_ready = False
        try:
            with uninterrupted():
                server = Server(start_process(command, environment, None), ports, access, None, scratch, tagger_instances)
            # Nobody knows how long an engine takes to load. Until then docker's health check says that there are no tags.
            server.wait_until_ready(timeout_s=math.inf)
            is_ready = True
            reason = server.wait_until_failure()
        except ServerError as error:
            reason = str(error)
        except KeyboardInterrupt:
            if is_ready:
                server.drain()
            server.stop()
            return _status(server)
        ended_by_itself = server.process.poll() is not None
        server.kill()
        print(f"error: {reason}; docker starts the container again", file=sys.stderr, flush=True)
        return _status(server) if ended_by_itself else _FAILED


def reached(command: list[str]) -> tuple[Access, Ports]:
    """How this process can ask the server that a command line starts; of flags that are there twice, the last counts.

    Raises:
        SettingError: with TLS, but without HTTP, there is no way.
    """
    flags = _flags(command)
    grpc_port, metrics_port = int(flags["--grpc-port"]), int(flags["--metrics-port"])
    if flags.get("--grpc-use-ssl", "false") == "false":
        return Access(), Ports(grpc_port=grpc_port, metrics_port=metrics_port)
    if flags.get("--allow-http") != "true" or "--http-port" not in flags:
        raise SettingError(
            "with TLS this process cannot see over gRPC whether tags come: add --allow-http=true --http-address=127.0.0.1 "
            "--http-port=8000, which nobody outside of the container reaches"
        )
    tls = Tls(Path(flags["--grpc-server-cert"]), Path(flags["--grpc-server-key"]))
    return Access(tls=tls), Ports(grpc_port, int(flags["--http-port"]), metrics_port)


def _flags(command: list[str]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in command)


def _status(server: Server) -> int:
    """The server's exit status, in the form that shells have for one that a signal has ended."""
    status: int = server.process.returncode
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
