"""A model hub on the loopback address: the part of its protocol that huggingface_hub 0.36 uses to fetch a snapshot, and ways to go wrong.

Two servers, as in reality: the hub itself, which knows names and commits, and a content server, to which it redirects for large files.
Like the real hub it also offers its other protocol ("xet") for large files, at an address where nothing answers.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "me/mine"


@dataclass(frozen=True)
class Asked:
    """A request, and how much of an answer it got."""

    server: str
    method: str
    path: str
    range: str | None
    authorization: str | None
    sent_bytes: int


@dataclass
class HubServer:
    """What the hub has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    token: str | None = None
    """Without this one nothing is given out."""
    cut_after_bytes: dict[str, int] = field(default_factory=dict)
    """File -> how much of it is sent before the connection is closed, once."""
    stall_after_bytes: dict[str, int] = field(default_factory=dict)
    """File -> how much of it is sent before nothing more comes, once; `stalled` says when."""
    damaged: set[str] = field(default_factory=set)
    """Files that arrive with one bit turned."""
    announced_bytes: dict[str, int] = field(default_factory=dict)
    """File -> a size to announce that it does not have."""
    url: str = ""
    content_url: str = ""
    asked: list[Asked] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def transfers(self, name: str) -> list[Asked]:
        """Requests that were answered with content of a file."""
        ends = (f"/resolve/{COMMIT}/{name}", "/" + hashlib.sha256(self.files[name]).hexdigest())
        return [one for one in self.asked if one.method == "GET" and one.path.endswith(ends) and one.sent_bytes]

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".model", ".bin"))


@contextmanager
def running(hub: HubServer) -> Iterator[HubServer]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, hub)) for handler in (_Hub, _Content)]
    hub.url, hub.content_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_name = ""

    def __init__(self, hub: HubServer, *arguments: object) -> None:
        self.hub = hub
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def record(self, sent_bytes: int = 0) -> None:
        self.hub.asked.append(
            Asked(self.server_name, self.command, self.path, self.headers["Range"], self.headers["Authorization"], sent_bytes)
        )

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.record()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def give(self, name: str, headers: dict[str, str]) -> None:
        """Send a file's content, from where it is asked for."""
        content = self.hub.files[name]
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.headers["Range"] else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for key, value in {**headers, "Accept-Ranges": "bytes", "Content-Length": str(len(content) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            self.record()
            return
        stall_bytes = self.hub.stall_after_bytes.pop(name, None)
        end = self.hub.cut_after_bytes.pop(name, stall_bytes)
        self.wfile.write(content[start:end])
        self.record(len(content[start:end]))
        if stall_bytes is not None:
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.closing.wait()


class _Hub(_Handler):
    server_name = "hub"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if self.hub.token and self.headers["Authorization"] != f"Bearer {self.hub.token}":
            self.answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."})
        elif url.path == f"/api/models/{REPO}/revision/{COMMIT}":
            self._describe(with_blobs="blobs" in parse_qs(url.query))
        elif url.path.startswith(f"/{REPO}/resolve/{COMMIT}/") and url.path.rpartition("/")[2] in self.hub.files:
            self._resolve(url.path.rpartition("/")[2])
        elif COMMIT not in url.path and REPO in url.path:
            self.answer(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        else:
            self.answer(404, {"X-Error-Code": "RepoNotFound" if REPO not in url.path else "EntryNotFound"})

    do_HEAD = do_GET  # noqa: N815 (the base class's name)

    def _describe(self, with_blobs: bool) -> None:
        siblings = []
        for name, content in self.hub.files.items():
            sibling: dict[str, object] = {"rfilename": name}
            size = self.hub.announced_bytes.get(name, len(content))
            if with_blobs:
                sibling |= {"size": size, "blobId": git_sha1(content)}
            if with_blobs and self.hub.is_large(name):
                sibling["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
            siblings.append(sibling)
        body = json.dumps({"_id": "1", "id": REPO, "modelId": REPO, "sha": COMMIT, "private": False, "siblings": siblings})
        self.answer(200, {"Content-Type": "application/json"}, body.encode())

    def _resolve(self, name: str) -> None:
        content = self.hub.files[name]
        if not self.hub.is_large(name):
            self.give(name, {"ETag": f'"{git_sha1(content)}"', "X-Repo-Commit": COMMIT})
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
            "X-Xet-Hash": sha256,
            "Link": f'<{self.hub.url}/nothing/xet-read-token>; rel="xet-auth"',
            "Location": f"{self.hub.content_url}/{sha256}",
        }
        self.answer(302, headers)


class _Content(_Handler):
    server_name = "content"

    def do_GET(self) -> None:
        name = next(name for name, content in self.hub.files.items() if self.path == "/" + hashlib.sha256(content).hexdigest())
        self.give(name, {})


def git_sha1(content: bytes) -> str:
    """The id that git gives to a file of that content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
