"""What the blocking and the asynchronous client share, which is all but the waiting.

A public method is a flow: a generator that sends calls, which never blocks, and yields what it has to wait for. `TaggerClient` runs a flow
by blocking, `AsyncTaggerClient` by awaiting; order of calls, budget, fallback and bookkeeping are written once, here.

A call is never cancelled when its caller stops waiting: it runs on to its deadline and is counted when it ends, because Triton suffers from
cancellation in masses (https://github.com/triton-inference-server/server/issues/7368). `max_unanswered` bounds how many may be under way.
"""

import math
import os
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from tritonclient.grpc import service_pb2, service_pb2_grpc

from pika_tagger._channel import Tls
from pika_tagger._codec import checked_strategy, decode, encode, labels_of, parameter, texts_of
from pika_tagger._errors import (
    ClientClosedError,
    InvalidRequestError,
    ServerBusyError,
    TaggerConnectionError,
    TaggerError,
    TaggerTimeoutError,
    VersionWarning,
)
from pika_tagger._retry import MAX_ATTEMPTS, Throttle, pause_s
from pika_tagger._schema import disagreement
from pika_tagger._settings import (
    DEFAULT_BUDGET_MS,
    DEFAULT_FALLBACK_EMOTION,
    DEFAULT_MAX_UNANSWERED,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    Metadata,
    OnFailure,
    Settings,
    checked_metadata,
    checked_on_failure,
    positive,
)
from pika_tagger._statuses import error_from
from pika_tagger._types import Counts, Dialogue, ServerInfo, Tag

NEUTRAL_LINES: Dialogue = {"user_last_message": "Hello.", "pika_response": "Let us sit down for a while."}
_POLL_S = 0.1
_FIRST_TAG_S = 5.0
"""Patience for one attempt while a server starts: its first tag may take longer than any later one."""

W = TypeVar("W")
T = TypeVar("T")


class InFlight(Generic[W]):
    """A call under way, and its end: a gRPC status by name, the words that came with it, and the response if the status is "OK".

    A `patient` one is waited for in any case: its deadline is within the budget, and nothing else is to be sent meanwhile.
    """

    __slots__ = ("abandoned", "deadline_s", "detail", "done", "method", "patient", "response", "status", "waiter")

    def __init__(self, method: str, deadline_s: float, patient: bool) -> None:
        self.method, self.deadline_s, self.patient = method, deadline_s, patient
        self.waiter: W | None = None
        self.done = self.abandoned = False
        self.status = self.detail = ""
        self.response: Any = None


@dataclass(frozen=True)
class Wait(Generic[W]):
    """A flow goes on when this call has ended, or at this time of `time.monotonic`, whichever comes first."""

    call: InFlight[W]
    until_s: float

    @property
    def left_s(self) -> float | None:
        """The longest wait from now on; None if there is no limit but the deadline of the call."""
        return None if self.until_s == math.inf else max(self.until_s - time.monotonic(), 0.0)


@dataclass(frozen=True)
class Sleep:
    """A flow goes on after so many seconds."""

    seconds: float


Flow = Generator[Wait[W] | Sleep, None, T]


class BaseClient(ABC, Generic[W]):
    """A client of the tagger without the waiting: see `TaggerClient` and `AsyncTaggerClient`."""

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        budget_ms: float = DEFAULT_BUDGET_MS,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        on_failure: OnFailure = "fallback",
        fallback_emotion: str = DEFAULT_FALLBACK_EMOTION,
        model_name: str = "tagger",
        tls: Tls | None = None,
        metadata: Mapping[str, str] | None = None,
        max_unanswered: int = DEFAULT_MAX_UNANSWERED,
    ) -> None:
        """Take the settings and check them; nothing is connected yet.

        Args:
            url: HOST:PORT of Triton's gRPC endpoint; a name that stands for several servers is balanced over all of them. Or a list of
                IP:PORT. The connection is made with the first call, and again whenever it was lost.
            budget_ms: The longest that `tag` keeps its caller waiting, in milliseconds; `math.inf` to wait for the deadline.
            timeout_s: Deadline of one call, in seconds. It goes on that long when the budget is used up, and nobody waits for it.
            on_failure: "fallback" answers with a neutral tag that is marked as such, "raise" raises a `TaggerError`.
            fallback_emotion: The face of the neutral tag, which never celebrates.
            model_name: The Triton model to ask.
            tls: Certificates; None speaks without encryption.
            metadata: Sent along with every call: a token, or the key of a restricted protocol. Names are sent in lower case.
            max_unanswered: So many calls may be under way; beyond that, `tag` fails at once with reason "busy".

        Raises:
            InvalidSettingError: One of them cannot work.
        """
        self._settings = Settings.checked(
            url,
            budget_ms=budget_ms,
            timeout_s=timeout_s,
            on_failure=on_failure,
            fallback_emotion=fallback_emotion,
            model_name=model_name,
            tls=tls,
            metadata=metadata,
            max_unanswered=max_unanswered,
        )
        self._target = self._settings.target
        self._channel: Any = None
        self._services: Any = None
        self._process_id = 0
        self._info: ServerInfo | None = None
        self._warned = self._closed = False
        self._lock = threading.Lock()
        self._under_way: set[InFlight[W]] = set()
        self._tags = self._late = self._retried = 0
        self._throttle = Throttle()
        self._failures: Counter[str] = Counter()

    @property
    def counts(self) -> Counts:
        """What this client has done so far."""
        with self._lock:
            return Counts(self._tags, MappingProxyType(dict(self._failures)), self._late, self._retried, len(self._under_way))

    def __repr__(self) -> str:
        settings = self._settings
        return (
            f"{type(self).__name__}({self._target.url!r}, budget_ms={settings.budget_ms:g}, timeout_s={settings.timeout_s:g}, "
            f"model_name={self._target.model_name!r})"
        )

    @abstractmethod
    def _open(self) -> Any:
        """Return a channel to the servers, blocking or asynchronous."""

    @abstractmethod
    def _launch(self, call: InFlight[W], rpc: Any, request: Any, metadata: Metadata) -> None:
        """Start `rpc`, a method of the stub, and see to it that `_ended` is told when it has ended; wait for that only if `call.patient`.

        Raises:
            ServerBusyError: The process has no thread for it.
            ClientClosedError: The client was closed just now, or this is not the event loop of its connection.
        """

    def _ended(self, call: InFlight[W], status: str, detail: str, response: Any) -> None:
        """Note how a call has ended, and whether somebody still waits for it."""
        call.status, call.detail, call.response = status, detail, response
        with self._lock:
            call.done = True
            self._under_way.discard(call)
            self._late += call.abandoned and call.method == "ModelInfer" and status == "OK"

    def _tag_flow(
        self,
        user_last_message: str,
        pika_response: str,
        pika_last_message: str | None,
        strategy: str | None,
        budget_ms: float | None,
        on_failure: OnFailure | None,
        metadata: Mapping[str, str] | None,
    ) -> Flow[W, Tag]:
        started_s = time.monotonic()
        settings = self._settings
        texts = texts_of(user_last_message, pika_response, pika_last_message)
        strategy = checked_strategy(strategy)
        budget_ms = settings.budget_ms if budget_ms is None else positive("budget_ms", budget_ms, "milliseconds", limit=math.inf)
        on_failure = settings.on_failure if on_failure is None else checked_on_failure(on_failure)
        more = checked_metadata(metadata) if metadata else ()
        try:
            tag = yield from self._asking(texts, strategy, started_s, budget_ms, settings.timeout_s, more)
        except ClientClosedError:
            raise
        except TaggerError as error:
            with self._lock:
                self._failures[error.reason] += 1
            if on_failure == "raise":
                raise
            failure = error.with_traceback(None)  # whose frames would keep what was said alive
        else:
            with self._lock:
                self._tags += 1
            return tag
        return Tag(settings.fallback_emotion, False, {}, 0.0, (time.monotonic() - started_s) * 1000, failure)

    def _health_flow(self, timeout_s: float | None = None) -> Flow[W, Tag]:
        return self._asking(texts_of(**NEUTRAL_LINES), None, time.monotonic(), math.inf, timeout_s or self._settings.timeout_s)

    def _ready_flow(self, timeout_s: float) -> Flow[W, Tag]:
        left_s = positive("timeout_s", timeout_s, "seconds")
        deadline_s = time.monotonic() + left_s
        while True:
            try:
                return (yield from self._health_flow(min(_FIRST_TAG_S, left_s)))
            except (InvalidRequestError, ClientClosedError):
                raise
            except TaggerError as error:
                last = error
            yield Sleep(_POLL_S)
            left_s = deadline_s - time.monotonic()
            if left_s < _POLL_S:
                raise TaggerTimeoutError(f"not ready after {timeout_s:g} s; the last attempt: {last}", status=last.status)

    def _info_flow(self) -> Flow[W, ServerInfo]:
        return self._learning(self._learn(self._settings.timeout_s), math.inf, 0.0)

    def _asking(
        self, texts: Mapping[str, str], strategy: str | None, started_s: float, budget_ms: float, deadline_s: float, more: Metadata = ()
    ) -> Flow[W, Tag]:
        until_s = started_s + budget_ms / 1000
        request = encode(self._target.model_name, texts, strategy)
        learning: tuple[InFlight[W], InFlight[W]] | None = None
        for attempt in range(MAX_ATTEMPTS):
            patient = self._info is not None and time.monotonic() + deadline_s <= until_s
            call = self._send("ModelInfer", request, deadline_s, more, patient)
            try:
                if not (learning or self._info):
                    learning = self._learn(deadline_s)  # at the same time, so that a first tag takes no longer
                response = yield from self._answer(call, until_s, budget_ms, texts)
                break
            except TaggerError as error:
                if not self._worth_another(error, attempt):
                    raise
                failure = error
            finally:
                self._abandon(call)
            pause = Sleep(pause_s(attempt))
            if time.monotonic() + pause.seconds >= until_s:
                raise failure
            yield pause
        self._throttle.succeeded()
        answer = decode(response, self._target)
        info = self._info or (yield from self._learning(learning or self._learn(deadline_s), until_s, budget_ms))
        if not answer.fits(info.labels):  # the server has been restarted with another task file
            info = yield from self._learning(self._learn(deadline_s), until_s, budget_ms)
        return answer.to_tag(info.labels, (time.monotonic() - started_s) * 1000, self._target)

    def _worth_another(self, error: TaggerError, attempt: int) -> bool:
        """Return whether the same call may succeed in a moment, perhaps on another server."""
        if error.status is None or not isinstance(error, (TaggerConnectionError, ServerBusyError)):
            return False
        again = self._throttle.failed() and attempt + 1 < MAX_ATTEMPTS
        with self._lock:
            self._retried += again
        return again

    def _learn(self, deadline_s: float) -> tuple[InFlight[W], InFlight[W]]:
        # Without a lock: threads that start together may each ask, which is harmless; queueing behind one that times out is not.
        config = self._send("ModelConfig", service_pb2.ModelConfigRequest(name=self._target.model_name), deadline_s)
        return config, self._send("ServerMetadata", service_pb2.ServerMetadataRequest(), deadline_s)

    def _learning(self, calls: tuple[InFlight[W], InFlight[W]], until_s: float, budget_ms: float) -> Flow[W, ServerInfo]:
        config = (yield from self._answer(calls[0], until_s, budget_ms)).config
        version: str | None = None
        try:
            version = (yield from self._answer(calls[1], until_s, budget_ms)).version
        except ClientClosedError:
            raise
        except TaggerError:  # a server may keep its metadata to itself, and tags all the same
            pass
        info = ServerInfo(
            triton_version=version,
            model_name=self._target.model_name,
            prompt_schema=parameter(config, "task"),
            strategy=parameter(config, "strategy"),
            labels=labels_of(config, self._target),
        )
        self._info = info
        if not self._warned and (sentence := disagreement(config, info, self._target.url)):
            self._warned = True
            warnings.warn(sentence, VersionWarning, stacklevel=2)
        return info

    def _send(self, method: str, request: Any, deadline_s: float, more: Metadata = (), patient: bool = False) -> InFlight[W]:
        rpc = getattr(self._stub(), method)
        call: InFlight[W] = InFlight(method, deadline_s, patient)
        with self._lock:
            if len(self._under_way) >= self._settings.max_unanswered:
                raise ServerBusyError(
                    f"{len(self._under_way)} calls to {self._target} are unanswered, and no more are made: "
                    "check the server's load, add a server, or ask less at once"
                )
            self._under_way.add(call)
        try:
            self._launch(call, rpc, request, (*self._settings.metadata, *more))
        except BaseException:
            with self._lock:
                self._under_way.discard(call)
            raise
        return call

    def _stub(self) -> Any:
        """Return the methods of the servers; the first call opens the channel, so that a client may be made before a fork."""
        if self._closed:
            raise self._closed_error()
        if self._services is None:
            with self._lock:
                if self._services is None:
                    self._process_id, self._channel = os.getpid(), self._open()
                    self._services = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        if self._process_id != os.getpid():
            raise ClientClosedError(
                f"this client of {self._target} was used before the process was forked, and its connection stayed behind: "
                "make or first use it in the new process, or start that with multiprocessing's spawn"
            )
        return self._services

    def _answer(self, call: InFlight[W], until_s: float, budget_ms: float, texts: Mapping[str, str] | None = None) -> Flow[W, Any]:
        """Return the response to a call, or raise for its failure."""
        try:
            if not call.done:
                yield Wait(call, until_s)
        finally:
            self._abandon(call)
        if call.abandoned:
            raise TaggerTimeoutError(
                f"no answer from {self._target} within the budget of {budget_ms:g} ms: check the server's load and the network, "
                "or give a larger budget_ms"
            )
        if call.status == "OK":
            return call.response
        if self._closed:
            raise self._closed_error()
        raise error_from(call.status, call.detail, target=self._target, deadline_s=call.deadline_s, texts=(texts or {}).values())

    def _abandon(self, call: InFlight[W]) -> None:
        """Wait for a call no longer; it stays under way, and its end is counted as late."""
        with self._lock:
            if not call.done:
                call.abandoned = True

    def _closed_error(self) -> ClientClosedError:
        return ClientClosedError(f"this client of {self._target} has been closed: make a new {type(self).__name__}")
