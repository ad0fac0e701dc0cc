"""Task `playground`: the page for prompt work, in the foreground: `python -m build.playground [--help]`.

Server, prompt files and port are put together here; the page itself is `web`.
"""

import argparse
import math
import sys
from pathlib import Path

from aiohttp import web

from build import manifest, settings
from build.errors import PipelineError, PortInUseError, SettingError
from build.playground.columns import Columns
from build.playground.web import Site
from build.server_options import LOOPBACK
from build.settings import Ports
from build.verify_engine import connected
from one_pass import TaskError
from pika_tagger import TaggerClient, TaggerError

PORT = 8010
_PATIENCE_S = 30.0
"""Deadline of one call: a slow answer should be seen as slow, not as failed."""


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until it is interrupted; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m build.playground", description="A page for prompt work, over a running server.")
    parser.add_argument("--model", default="pika-tiny", help="default: %(default)s")
    parser.add_argument("--target", default="cpu", help="what the server serves (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, default=Ports().grpc_port, help=f"the server's, on {LOOPBACK} (default: %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="where the page shall be (default: %(default)s)")
    parser.add_argument("--prompt", type=Path, action="append", default=[], metavar="FILE", help="a prompt file to try, besides our own")
    parser.add_argument("--save", type=Path, metavar="FILE", help="labelled lines (default: checkpoints/<model>/marked.jsonl)")
    given = parser.parse_args(arguments)
    try:
        _run(given)
    except (PipelineError, TaskError, TaggerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(given: argparse.Namespace) -> None:
    model, target = settings.model(given.model), settings.target(given.target)
    repository = model.folder / f"triton-{target.name}"
    manifest.read(repository)
    for path in given.prompt:
        if not path.is_file():
            raise SettingError(f"prompt={path} is not a file; give one of the form of {model.task_file}")
    url = f"{LOOPBACK}:{given.grpc_port}"
    with TaggerClient(url, budget_ms=math.inf, timeout_s=_PATIENCE_S, on_failure="raise") as tagger, connected(url) as engine:
        tagger.health()
        columns = Columns(tagger, engine, repository, target.tokens_per_block)
        saved_to = given.save or model.folder / "marked.jsonl"
        site = Site(columns, [*sorted(settings.TASKS.glob("*.toml")), *given.prompt], saved_to, given.port)
        try:
            web.run_app(
                site.application(),
                host=LOOPBACK,
                port=given.port,
                print=lambda _: print(f"http://{LOOPBACK}:{given.port} asks {url}. Ctrl-C stops.", flush=True),
            )
        except OSError as error:
            raise PortInUseError(
                f"port {given.port} cannot be used ({error.strerror}): give another one with playground_port=NUMBER"
            ) from None


if __name__ == "__main__":
    sys.exit(main())
