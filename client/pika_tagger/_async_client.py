"""The asynchronous client: `_base` with waiting by awaiting. Its twin is `_client`; what one can do, the other can."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar, overload

from pika_tagger._base import BaseClient, Flow, InFlight, Sleep
from pika_tagger._errors import ClientClosedError
from pika_tagger._many import DEFAULT_CONCURRENCY, checked_concurrency, checked_dialogues
from pika_tagger._settings import Metadata, OnFailure
from pika_tagger._types import Dialogue, ServerInfo, Tag

T = TypeVar("T")


class AsyncTaggerClient(BaseClient["asyncio.Task[None]"]):
    """Tags Pika's lines from coroutines; make one and share it among the tasks of one event loop, that of its first call.

    The methods are those of `TaggerClient` and mean the same. The budget is kept as long as nothing else blocks the event loop.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    # The short form of its own lets type checkers take `tag(**texts)` with a plain dict of strings.
    @overload
    async def tag(
        self, *, user_last_message: str, pika_response: str, pika_last_message: str | None = ..., strategy: str | None = ...
    ) -> Tag: ...

    @overload
    async def tag(
        self,
        *,
        user_last_message: str,
        pika_response: str,
        pika_last_message: str | None = ...,
        strategy: str | None = ...,
        budget_ms: float | None = ...,
        on_failure: OnFailure | None = ...,
        metadata: Mapping[str, str] | None = ...,
    ) -> Tag: ...

    async def tag(
        self,
        *,
        user_last_message: str,
        pika_response: str,
        pika_last_message: str | None = None,
        strategy: str | None = None,
        budget_ms: float | None = None,
        on_failure: OnFailure | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Tag:
        """Do as `TaggerClient.tag`."""
        return await self._run(
            self._tag_flow(user_last_message, pika_response, pika_last_message, strategy, budget_ms, on_failure, metadata)
        )

    async def tag_many(
        self,
        dialogues: Iterable[Dialogue],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        strategy: str | None = None,
        budget_ms: float | None = None,
    ) -> list[Tag]:
        """Do as `TaggerClient.tag_many`."""
        checked, turns = checked_dialogues(dialogues), asyncio.Semaphore(checked_concurrency(concurrency))

        async def in_turn(dialogue: Dialogue) -> Tag:
            async with turns:
                return await self.tag(**dialogue, strategy=strategy, budget_ms=budget_ms, on_failure="fallback")

        return list(await asyncio.gather(*map(in_turn, checked)))

    async def health(self) -> Tag:
        """Do as `TaggerClient.health`."""
        return await self._run(self._health_flow())

    async def wait_until_ready(self, timeout_s: float) -> Tag:
        """Do as `TaggerClient.wait_until_ready`."""
        return await self._run(self._ready_flow(timeout_s))

    async def server_info(self) -> ServerInfo:
        """Do as `TaggerClient.server_info`."""
        return await self._run(self._info_flow())

    async def close(self) -> None:
        """Close the connection. Calls in flight in other tasks fail; closing twice is allowed."""
        self._closed = True
        if self._channel is not None and self._loop is asyncio.get_running_loop():
            await self._channel.close()

    async def __aenter__(self) -> "AsyncTaggerClient":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def _run(self, flow: Flow["asyncio.Task[None]", T]) -> T:
        with closing(flow):
            try:
                while True:
                    pause = next(flow)
                    if isinstance(pause, Sleep):
                        await asyncio.sleep(pause.seconds)
                    elif pause.call.waiter is not None:  # `wait` cancels nothing, neither when time is up nor when its caller is cancelled
                        await asyncio.wait({pause.call.waiter}, timeout=pause.left_s)
            except StopIteration as end:
                result: T = end.value
                return result

    def _open(self) -> Any:
        self._loop = asyncio.get_running_loop()
        return self._settings.endpoint.open_async()

    def _launch(self, call: InFlight["asyncio.Task[None]"], rpc: Any, request: Any, metadata: Metadata) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise ClientClosedError(
                f"this client of {self._target} belongs to the event loop of its first call: make one in each event loop"
            )
        call.waiter = loop.create_task(self._land(call, rpc(request, timeout=call.deadline_s, metadata=metadata)))

    async def _land(self, call: InFlight["asyncio.Task[None]"], rpc: Any) -> None:
        status, detail, response = "CANCELLED", "", None
        try:
            status, detail = (await rpc.code()).name, await rpc.details() or ""
            response = await rpc if status == "OK" else None
        finally:  # also when somebody cancels all tasks of the loop
            self._ended(call, status, detail, response)
