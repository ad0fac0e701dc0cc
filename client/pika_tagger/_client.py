"""The blocking client.

It owns the order of calls and their deadline; what is sent and how answers are read is `_codec`, how to connect is `_channel`.
"""

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tritonclient.utils import InferenceServerException

from pika_tagger._channel import open_channel
from pika_tagger._codec import Target, checked_strategy, decode, encode, error_from, labels_of, texts_of
from pika_tagger._errors import ClientClosedError, InvalidRequestError, InvalidSettingError, TaggerError, TaggerTimeoutError
from pika_tagger._types import Tag

DEFAULT_URL = "localhost:8001"

_NEUTRAL_LINES = {"user_last_message": "Hello.", "pika_response": "Let us sit down for a while."}
_POLL_S = 0.1
_FIRST_TAG_S = 5.0
"""Patience for one attempt while a server starts: its first tag may take longer than any later one."""


class TaggerClient:
    """Tags Pika's lines; make one and share it among threads.

    Args:
        url: HOST:PORT of Triton's gRPC endpoint. The connection is made with the first call, and again whenever it was lost.
        timeout_s: Deadline of one call, in seconds.
        model_name: The Triton model to ask.

    Raises:
        InvalidSettingError: The url or the timeout cannot work.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = 1.0, model_name: str = "tagger") -> None:
        self._timeout_s = _positive("timeout_s", timeout_s)
        self._target = Target(url, model_name)
        self._labels: tuple[str, ...] = ()
        self._closed = False
        self._server = open_channel(url)

    def tag(self, *, user_last_message: str, pika_response: str, pika_last_message: str | None = None, strategy: str | None = None) -> Tag:
        """Return the emotion and the celebrate flag of one line.

        Args:
            user_last_message: What the child said last; may be empty.
            pika_response: What Pika is about to say; must not be blank.
            pika_last_message: What Pika had said before, if known: the question that the child was answering.
            strategy: How the model is asked, `codes`, `words` or `json`; None leaves it to the server.

        Raises:
            TaggerError: See `pika_tagger._errors` for the kinds and what to do about each.
        """
        texts = texts_of(user_last_message, pika_response, pika_last_message)
        return self._tag(texts, self._timeout_s, checked_strategy(strategy))

    def health(self) -> Tag:
        """Return the tag of a fixed neutral line, or raise: a server whose engine has died may still call itself ready."""
        return self._tag(_NEUTRAL_LINES, self._timeout_s)

    def wait_until_ready(self, timeout_s: float) -> Tag:
        """Tag a neutral line again and again until an answer comes, and return it.

        Raises:
            TaggerTimeoutError: None came within `timeout_s` seconds; the message names the last error.
            InvalidRequestError: The server refuses the line, which waiting does not change.
        """
        left_s = _positive("timeout_s", timeout_s)
        deadline_s = time.monotonic() + left_s
        while True:
            try:
                return self._tag(_NEUTRAL_LINES, min(_FIRST_TAG_S, left_s))
            except (InvalidRequestError, ClientClosedError):
                raise
            except TaggerError as error:
                last = error
            time.sleep(_POLL_S)
            left_s = deadline_s - time.monotonic()
            if left_s < _POLL_S:
                raise TaggerTimeoutError(f"not ready after {timeout_s:g} s; the last attempt: {last}", status=last.status)

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions that the server knows, in the order of its scores; asked for once."""
        return self._labels or self._fetch_labels(self._timeout_s)

    def close(self) -> None:
        """Close the connection. Calls in flight in other threads fail; closing twice is allowed."""
        self._closed = True
        self._server.close()

    def __enter__(self) -> "TaggerClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TaggerClient({self._target.url!r}, timeout_s={self._timeout_s:g}, model_name={self._target.model_name!r})"

    def _tag(self, texts: Mapping[str, str], timeout_s: float, strategy: str | None = None) -> Tag:
        deadline_s = time.monotonic() + timeout_s
        labels = self._labels or self._fetch_labels(timeout_s)
        started_s = time.perf_counter()
        result = self._call(
            lambda left_s: self._server.infer(self._target.model_name, encode(texts, strategy), client_timeout=left_s),
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            texts=texts,
        )
        answer = decode(result, self._target)
        latency_ms = (time.perf_counter() - started_s) * 1000
        if not answer.fits(labels):  # the server has been restarted with another task file
            labels = self._fetch_labels(max(deadline_s - time.monotonic(), 0))
        return answer.to_tag(labels, latency_ms, self._target)

    def _fetch_labels(self, timeout_s: float) -> tuple[str, ...]:
        # Without a lock: threads that start together may each ask, which is harmless; queueing behind one that times out is not.
        config = self._call(
            lambda left_s: self._server.get_model_config(self._target.model_name, client_timeout=left_s),
            timeout_s=timeout_s,
            deadline_s=time.monotonic() + timeout_s,
        )
        self._labels = labels_of(config, self._target)
        return self._labels

    def _call(self, rpc: Callable[[float], Any], *, timeout_s: float, deadline_s: float, texts: Mapping[str, str] | None = None) -> Any:
        """Return what `rpc` returns, called with the seconds that are left; turn its failure into an error of ours.

        The error is raised after the handler, so that it carries no trace of the original, whose message may quote the dialogue.
        """
        failure: TaggerError | None = None
        if not self._closed:
            try:
                return rpc(max(deadline_s - time.monotonic(), 0))
            except InferenceServerException as error:
                failure = error_from(error, self._target, timeout_s, texts or {})
            except ValueError:  # gRPC's answer to a call on a closed channel
                if not self._closed:
                    raise
        if failure is None or self._closed:
            raise ClientClosedError(f"this client of {self._target} has been closed: make a new TaggerClient")
        raise failure


def _positive(name: str, seconds: float) -> float:
    if not (isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds > 0):
        raise InvalidSettingError(f"{name} is {seconds!r}: give a number of seconds above 0")
    return seconds
