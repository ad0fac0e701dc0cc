"""The page for prompt work as a process of its own, as `doit playground` starts it, and requests from itself and from strangers."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build import ROOT
from build.ports import free_ports
from build.serve import Server


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Playground:
    """A running page."""

    port: int
    saved_to: Path
    log: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, method: str, path: str, content: Any = None, **headers: str | None) -> Answer:
        """Send what the page itself would send; `headers` (with _ for -) are put in the place of its own, None leaves one out."""
        own: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}"}
        if content is not None:
            own |= {"Origin": self.origin, "Content-Type": "application/json"}
        sent = own | {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            body = None if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
            connection.putrequest(method, path, skip_host=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()


@contextmanager
def playground(server: Server, folder: Path, *prompts: Path) -> Iterator[Playground]:
    """The page over a server, stopped at the end; marked lines go to `folder`."""
    page = Playground(free_ports().http_port, folder / "marked.jsonl", folder / "playground.log")
    arguments = ["--grpc-port", str(server.ports.grpc_port), "--port", str(page.port), "--save", str(page.saved_to)]
    for path in prompts:
        arguments += ["--prompt", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    with page.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "build.playground", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        first = process.stdout.readline().decode()
        assert first.startswith(page.origin), first + page.log.read_text()
        yield page
    finally:
        process.terminate()
        process.communicate(timeout=30)
