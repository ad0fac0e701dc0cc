"""The blocking client: `_base` with waiting by blocking. Its twin is `_async_client`; what one can do, the other can."""

import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar, overload

import grpc  # type: ignore[import-untyped]

from pika_tagger._base import BaseClient, Flow, InFlight, Sleep
from pika_tagger._callers import Callers
from pika_tagger._errors import ServerBusyError
from pika_tagger._many import DEFAULT_CONCURRENCY, checked_concurrency, checked_dialogues
from pika_tagger._settings import Metadata, OnFailure
from pika_tagger._types import Dialogue, ServerInfo, Tag

T = TypeVar("T")


class TaggerClient(BaseClient[threading.Event]):
    """Tags Pika's lines; make one and share it among threads.

    A process that forks may make it before, but must not use it before: see `ClientClosedError`.
    """

    _callers: Callers
    _disconnect: Callable[[], object] | None = None
    """Closes the connection, once; also when the client is forgotten without being closed, and when the interpreter ends."""

    # The short form of its own lets type checkers take `tag(**texts)` with a plain dict of strings.
    @overload
    def tag(
        self, *, user_last_message: str, pika_response: str, pika_last_message: str | None = ..., strategy: str | None = ...
    ) -> Tag: ...

    @overload
    def tag(
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

    def tag(
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
        """Return the emotion and the celebrate flag of one line, or the fallback if they do not come within the budget.

        Args:
            user_last_message: What the child said last; may be empty.
            pika_response: What Pika is about to say; must not be blank.
            pika_last_message: What Pika had said before, if known: the question that the child was answering.
            strategy: How the model is asked, `codes`, `words` or `json`; None leaves it to the server.
            budget_ms: In the place of the client's own.
            on_failure: In the place of the client's own.
            metadata: Sent besides the client's own.

        Raises:
            InvalidRequestError: An argument is no string. What the server refuses is a failure like any other.
            InvalidSettingError: Budget, on_failure or metadata cannot work.
            ClientClosedError: The client is closed, or was used before this process was forked.
            TaggerError: With "raise" only; see `pika_tagger._errors` for the kinds and what to do about each.
        """
        return self._run(self._tag_flow(user_last_message, pika_response, pika_last_message, strategy, budget_ms, on_failure, metadata))

    def tag_many(
        self,
        dialogues: Iterable[Dialogue],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        strategy: str | None = None,
        budget_ms: float | None = None,
    ) -> list[Tag]:
        """Tag many dialogues, at most `concurrency` at a time, and return as many tags in the same order.

        A failed one is a fallback, whose `error` says why, and ends no other. The budget counts for each dialogue from when it is sent.

        Raises:
            InvalidRequestError: A dialogue has wrong fields; nothing has been sent.
            InvalidSettingError: The concurrency or the budget cannot work.
            ClientClosedError: As `tag`.
        """
        checked = checked_dialogues(dialogues)
        with ThreadPoolExecutor(checked_concurrency(concurrency)) as pool:
            return list(pool.map(lambda each: self.tag(**each, strategy=strategy, budget_ms=budget_ms, on_failure="fallback"), checked))

    def health(self) -> Tag:
        """Return the tag of a fixed neutral line, or raise: a server whose engine has died may still call itself ready.

        Raises:
            TaggerError: No tag came within `timeout_s`.
        """
        return self._run(self._health_flow())

    def wait_until_ready(self, timeout_s: float) -> Tag:
        """Tag a neutral line again and again until an answer comes, and return it.

        Raises:
            TaggerTimeoutError: None came within `timeout_s` seconds; the message names the last error.
            InvalidRequestError: The server refuses the line, which waiting does not change.
        """
        return self._run(self._ready_flow(timeout_s))

    def server_info(self) -> ServerInfo:
        """Ask who answers, and with which labels and prompt.

        Raises:
            TaggerError: The server does not say.
        """
        return self._run(self._info_flow())

    def close(self) -> None:
        """Close the connection. Calls in flight in other threads fail; closing twice is allowed."""
        self._closed = True
        if self._disconnect is not None:
            self._disconnect()

    def __enter__(self) -> "TaggerClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _run(self, flow: Flow[threading.Event, T]) -> T:
        with contextlib.closing(flow):
            try:
                while True:
                    pause = next(flow)
                    if isinstance(pause, Sleep):
                        time.sleep(pause.seconds)
                    elif pause.call.waiter is not None:
                        pause.call.waiter.wait(pause.left_s)
            except StopIteration as end:
                result: T = end.value
                return result

    def _open(self) -> Any:
        channel = self._settings.endpoint.open()
        self._callers = Callers()
        self._disconnect = weakref.finalize(self, _disconnect, channel, self._callers, os.getpid())
        return channel

    def _launch(self, call: InFlight[threading.Event], rpc: Any, request: Any, metadata: Metadata) -> None:
        if call.patient:
            self._make(call, None, rpc, request, metadata)
            return
        call.waiter = threading.Event()
        try:
            self._callers.take(functools.partial(self._make, call, call.waiter, rpc, request, metadata))
        except RuntimeError:
            if self._closed:
                raise self._closed_error() from None
            raise ServerBusyError(
                "this process can have no more threads, and a call needs one: ask less at once, or raise the limit (ulimit -u)"
            ) from None

    def _make(self, call: InFlight[threading.Event], ended: threading.Event | None, rpc: Any, request: Any, metadata: Metadata) -> None:
        status, detail, response = "CANCELLED", "", None
        try:
            response = rpc(request, timeout=call.deadline_s, metadata=metadata)
            status = "OK"
        except grpc.RpcError as error:
            status, detail = error.code().name, error.details() or ""
        except ValueError as error:  # gRPC's answer to a call on a channel that was closed just now
            detail = str(error)
        finally:
            self._ended(call, status, detail, response)
            if ended is not None:
                ended.set()


def _disconnect(channel: Any, callers: Callers, process_id: int) -> None:
    """End what `_open` began, unless this is another process, where it does not exist."""
    if os.getpid() == process_id:
        channel.close()
        callers.end()
