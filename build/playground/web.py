"""The border with the browser: what may be asked for, by whom, and how failures are told.

Listening on 127.0.0.1 keeps other machines out, but not the other pages in the browser of whoever works here: any of them can send requests
to this port, and by a name that it lets resolve to 127.0.0.1 (DNS rebinding) read the answers, too. So a request must name this very
address as its host, and whatever does something must come from this page (Origin) as JSON, which no form of another page can send.
A new route goes through `_guarded`, as all do; nothing here logs what was said.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from build import ROOT
from build.errors import PipelineError
from build.playground import own_file
from build.playground.columns import Column, Columns
from one_pass import STRATEGIES, AnswerError, Dialogue
from pika_tagger import TaggerError
from pika_tagger._labelled import TEXT_FIELDS, dialogue_texts, yes_or_no

PAGE = Path(__file__).parent / "page"
SERVED = ""
"""Stands for the served prompt where a prompt file may be named."""
MAX_BODY_BYTES = 1 << 16
_HEADERS = {
    # Only what lies beside this module is loaded, and no other page shows this one in a frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The browser keeps no copy of what a child said.
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The page and what it asks for; one question at a time, so that none is in the other's time."""

    def __init__(self, columns: Columns, prompt_files: Sequence[Path], saved_to: Path, port: int) -> None:
        """Take what the page is about.

        Args:
            columns: asks the server.
            prompt_files: to try beside the served prompt.
            saved_to: the file that marked lines go to.
            port: where the page is, on the loopback address.
        """
        self._columns, self._saved_to = columns, saved_to
        self._prompts = {_name(path): path for path in prompt_files}
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._worker = ThreadPoolExecutor(1)

    def application(self) -> web.Application:
        """The application, to be run on the loopback address."""
        application = web.Application(middlewares=[self._guarded], client_max_size=MAX_BODY_BYTES)
        application.on_response_prepare.append(_add_headers)
        application.router.add_get("/", _page)
        application.router.add_get("/setup", self._setup)
        application.router.add_post("/tag", self._tag)
        application.router.add_post("/save", self._save)
        application.router.add_static("/page", PAGE)
        return application

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host not in self._hosts:
            return _refusal(403, f"this page is at http://{min(self._hosts)} and answers to no other name")
        if request.method not in ("GET", "HEAD"):
            if request.headers.get("Origin") != f"http://{request.host}":
                return _refusal(403, "only the page itself may ask for this")
            if request.content_type != "application/json":
                return _refusal(415, "send application/json")
        try:
            return await handler(request)
        except (AnswerError, PipelineError, TaggerError) as error:
            return _refusal(502, str(error))
        except ValueError as error:  # those of `one_pass` and of the client's checks, which say what to correct
            return _refusal(400, str(error))

    async def _setup(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"labels": self._columns.labels, "strategies": STRATEGIES, "prompts": [*self._prompts], "saved_to": _name(self._saved_to)}
        )

    async def _tag(self, request: web.Request) -> web.Response:
        fields = await _fields(request)
        dialogue = Dialogue(**dialogue_texts(fields))
        prompt, strategy = fields.get("prompt"), fields.get("strategy")
        if strategy not in STRATEGIES or not (prompt == SERVED or prompt in self._prompts):
            raise ValueError("strategy or prompt is none of those that this page offers: load it again")
        column = await self._in_turn(lambda: self._column(prompt, dialogue, strategy))
        return web.json_response(asdict(column))

    async def _save(self, request: web.Request) -> web.Response:
        row = _labelled_row(await _fields(request), self._columns.labels)
        lines = await self._in_turn(lambda: own_file.save(self._saved_to, row))
        return web.json_response({"lines": lines})

    def _column(self, prompt: str, dialogue: Dialogue, strategy: str) -> Column:
        if prompt == SERVED:
            return self._columns.served(dialogue, strategy)
        return self._columns.tried(self._prompts[prompt], dialogue, strategy)

    async def _in_turn(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _name(path: Path) -> str:
    """A path as it is shown: short, if it is in this checkout."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


async def _page(_: web.Request) -> web.StreamResponse:
    return web.FileResponse(PAGE / "index.html")


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


async def _fields(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent; the ValueError for anything else does not repeat it."""
    try:
        fields = json.loads(await request.read())
    except ValueError:
        raise ValueError("the request is not JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("the request is not a JSON object")
    return fields


def _labelled_row(fields: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """One line of the file of marked lines, as docs/evaluation.md has it."""
    texts = dialogue_texts(dict(fields))
    emotions = fields.get("emotion")
    if not isinstance(emotions, list) or not emotions or not all(each in labels for each in emotions):
        raise ValueError(f"emotion is no list of labels; there are {', '.join(labels)}")
    celebrate = yes_or_no(fields.get("celebrate"), "celebrate")
    ordered = {name: texts[name] for name in reversed(TEXT_FIELDS) if name in texts}
    return {**ordered, "emotion": list(dict.fromkeys(emotions)), "celebrate": "yes" if celebrate else "no"}


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
