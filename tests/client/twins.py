"""Both clients behind one face, so that one suite tests both: the asynchronous one is driven from a thread with an event loop."""

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

from pika_tagger import AsyncTaggerClient, Counts, TaggerClient

Make = Callable[..., TaggerClient]
"""Makes a client as its class would."""


class Driven:
    """An AsyncTaggerClient with the blocking methods of a TaggerClient; usable from any thread."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._client = AsyncTaggerClient(*arguments, **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def blocking(*arguments: Any, **settings: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(method(*arguments, **settings), self._loop).result()

        return blocking

    @property
    def counts(self) -> Counts:
        return self._client.counts

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> "Driven":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        await self._client.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await task


TWINS: dict[str, Make] = {"blocking": TaggerClient, "asynchronous": cast(Make, Driven)}
