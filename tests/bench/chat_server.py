"""An OpenAI-compatible server on the loopback address: the part of the streaming protocol that benchmarks use, and ways to go wrong.

What it says to a request is a list of steps that the test chooses; bytes are sent as they are, so that a test may damage them.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any

RIGHT = '{"emotion_name": "proud", "celebrate": "yes"}'


@dataclass(frozen=True)
class Status:
    """Answer with this status and nothing else."""

    code: int


class Hang:
    """Say nothing more until the test is over, and keep the connection."""


class Chatter:
    """Send comments for seconds, as servers do to keep a connection alive."""


class Cut:
    """Close the connection in the middle of the answer."""


Step = bytes | Status | Hang | Chatter | Cut


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def piece(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def finish(reason: str = "stop") -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


def usage(tokens: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": 400, "completion_tokens": tokens, "total_tokens": 400 + tokens}})


START = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
DONE = b"data: [DONE]\n\n"


def answer(text: str = RIGHT, tokens: int = 18) -> list[Step]:
    """A whole answer in four pieces."""
    quarter = max(1, len(text) // 4)
    parts = [text[at : at + quarter] for at in range(0, len(text), quarter)]
    return [START, *map(piece, parts), finish(), usage(tokens), DONE]


@dataclass
class ChatServer:
    """What it says, and what it was asked."""

    reply: Callable[[dict[str, Any]], Iterable[Step]] = lambda body: answer()
    models: Any = field(default_factory=lambda: {"object": "list", "data": [{"id": "phi-3", "object": "model"}]})
    models_status: int = 200
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def running(chat: ChatServer) -> Iterator[ChatServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, chat))
    server.daemon_threads = True
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield chat
    finally:
        chat.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def __init__(self, chat: ChatServer, *arguments: object) -> None:
        self.chat = chat
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        body = json.dumps(self.chat.models).encode()
        self.send_response(self.chat.models_status if self.path == "/v1/models" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.chat.asked.append(body)
        self.chat.keys.append(self.headers["Authorization"])
        self.chat.connections.add(self.client_address)
        steps = iter(self.chat.reply(body))
        first = next(steps)
        if self.path != "/v1/chat/completions" or isinstance(first, Status):
            self.send_response(first.code if isinstance(first, Status) else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for step in chain([first], steps):
                if not self._take(step):
                    self.close_connection = True
                    return
            self._send(b"")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _take(self, step: Step) -> bool:
        """Whether to go on."""
        if isinstance(step, bytes):
            self._send(step)
            return True
        if isinstance(step, Hang):
            self.chat.over.wait()
        elif isinstance(step, Chatter):
            for _ in range(500):
                if self.chat.over.wait(0.01):
                    break
                self._send(b": still there\n\n")
        return False

    def _send(self, content: bytes) -> None:
        """Send one chunk; an empty one ends the answer."""
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()
