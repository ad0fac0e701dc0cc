"""An OpenAI-compatible server (vLLM, LMDeploy, trtllm-serve) over HTTP, streaming, so that the time of every piece is known.

The stream is server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), one JSON object in each `data:` line and
`[DONE]` in the last. Lines are split at LF alone: texts from a model may hold other characters that Python takes for line ends. Each
request under way has a connection of its own, as so many callers would have; the one that was used last is used again.
"""

import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from build.bench import chat_request
from build.bench.endpoints import Answer
from build.errors import PipelineError
from one_pass import AnswerError, Task
from one_pass.json_answer import read
from pika_tagger._labelled import Labelled, Row
from pika_tagger._server_split import Split

KEY_VARIABLE = "OPENAI_API_KEY"
_CONNECT_TIMEOUT_S = 5.0
_DONE = b"[DONE]"
_REASONS = {401: "denied", 403: "denied", 408: "late", 429: "busy", 503: "busy", 504: "late"}
"""Words as in `pika_tagger`; "cut" is new: the connection ended, or the stream did, before the answer."""
_MOST_OF_AN_ERROR = 300


@dataclass
class _Stream:
    """What has come of one answer so far."""

    text: str = ""
    pieces_ms: list[float] = field(default_factory=list)
    tokens: int | None = None
    ended: str | None = None
    """Why the model stopped: "stop", "length"."""
    last_ms: float = 0.0
    """When the last event came, `[DONE]` included."""
    done: bool = False
    """Whether that one has come."""


class _FailedError(Exception):
    """A request has no answer; the message is why, in one word."""


class ChatEndpoint:
    """A server that answers, and what it is asked."""

    def __init__(self, url: str, task: Task, model: str | None, system: str | None, timeout_s: float) -> None:
        """Find out which model there is.

        Args:
            url: up to and including /v1.
            task: labels, and the words of the request.
            model: as the server calls it; None takes the only one there is.
            system: see `chat_request.body`.
            timeout_s: for one request, from when it was due to the end of its answer.

        Raises:
            PipelineError: nobody answers there, or the model cannot be chosen.
        """
        try:
            self._shown_url = str(httpx.URL(url).copy_with(userinfo=b""))
        except httpx.InvalidURL as error:
            raise PipelineError(f"{url} is no url ({error}): give http://HOST:PORT/v1") from None
        self._url, self._task, self._system, self._timeout_s = url.rstrip("/"), task, system, timeout_s
        self._trust = ssl.create_default_context()  # once: making one takes longer than a tag
        self._idle: list[httpx.Client] = []
        self._all: list[httpx.Client] = []
        self._lock = threading.Lock()
        try:
            self._model = model or self._only_model()
        except BaseException:
            self.close()
            raise

    @property
    def about(self) -> dict[str, Any]:
        """As `Endpoint` says."""
        prompt = f"{self._task.name}/{self._task.version}" if self._system is None else "own"
        return {
            "name": f"chat completions, {self._model}",
            "url": self._shown_url,
            "kind": "chat",
            "model": self._model,
            "system_prompt": prompt,
            "max_tokens": chat_request.MAX_TOKENS,
        }

    def check(self, labelled: Labelled) -> None:
        """As `Endpoint` says."""
        labelled.check_labels(self._task.label_names)

    def ask(self, row: Row, due_s: float) -> Answer:
        """As `Endpoint` says."""
        stream, failure = _Stream(), None
        body = chat_request.body(self._task, self._model, self._system, row)
        try:
            self._receive(body, due_s, stream)
        except _FailedError as error:
            failure = str(error)
        except httpx.TimeoutException:
            failure = "late"
        except httpx.ConnectError:
            failure = "unreachable"
        except httpx.HTTPError:
            failure = "cut"
        latency_ms = stream.last_ms if failure is None else (time.monotonic() - due_s) * 1000
        answer = Answer(latency_ms, failure, row.line, due_s, tuple(stream.pieces_ms), stream.tokens, cut=stream.ended == "length")
        if failure is not None:
            return answer
        try:
            emotion_name, celebrate = read(stream.text, self._task)
        except AnswerError:
            return answer
        return replace(answer, emotion_name=emotion_name, celebrate=celebrate)

    def splits(self) -> dict[str, Split]:
        """As `Endpoint` says; such servers have none."""
        return {}

    def close(self) -> None:
        """As `Endpoint` says."""
        for client in self._all:
            client.close()

    def _receive(self, body: dict[str, Any], due_s: float, stream: _Stream) -> None:
        with self._client() as client, client.stream("POST", f"{self._url}/chat/completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                raise _FailedError(_REASONS.get(response.status_code, "refused" if response.is_client_error else "failed"))
            try:
                for value in self._values(response, due_s):
                    stream.last_ms = (time.monotonic() - due_s) * 1000
                    stream.done = value.strip() == _DONE
                    if not stream.done:
                        _take(_parsed(value), stream)
            except httpx.HTTPError:
                if not stream.done:
                    raise
        # Some servers leave the last line out; that the model stopped is said in any case.
        if stream.ended is None:
            raise _FailedError("cut")
        if stream.tokens is None:
            stream.tokens = len(stream.pieces_ms)

    def _values(self, response: httpx.Response, due_s: float) -> Iterator[bytes]:
        """Values of the `data:` lines, to the very end of the response: a connection that was not read out cannot be used again."""
        rest = b""
        for chunk in response.iter_bytes():
            if time.monotonic() - due_s > self._timeout_s:  # a server may send a sign of life for ever
                raise _FailedError("late")
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                name, _, value = line.rstrip(b"\r").partition(b":")
                if name == b"data":  # all else is a comment, the end of an event, or a field that no server of this kind uses
                    yield value

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        with self._lock:
            client = self._idle.pop() if self._idle else self._new_client()
        try:
            yield client
        finally:
            with self._lock:
                self._idle.append(client)

    def _new_client(self) -> httpx.Client:
        headers = {"Accept-Encoding": "identity"}  # a compressed stream comes in lumps
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        timeout = httpx.Timeout(self._timeout_s, connect=min(_CONNECT_TIMEOUT_S, self._timeout_s))
        client = httpx.Client(verify=self._trust, headers=headers, timeout=timeout, trust_env=False)  # a proxy would be measured too
        self._all.append(client)
        return client

    def _only_model(self) -> str:
        where = f"{self._shown_url}/models"
        try:
            with self._client() as client:
                response = client.get(f"{self._url}/models")
            models = [str(each["id"]) for each in response.json()["data"]] if response.is_success else []
        except httpx.HTTPError as error:
            raise PipelineError(f"{where} does not answer ({type(error).__name__}): start the server, or check the url") from None
        except (ValueError, KeyError, TypeError):
            raise PipelineError(f"{where} does not answer as an OpenAI-compatible server: the url ends in /v1 on most") from None
        if not response.is_success:
            hint = f"give the key in {KEY_VARIABLE}" if response.status_code in (401, 403) else "the url ends in /v1 on most servers"
            raise PipelineError(f"{where} answers with status {response.status_code}: {hint}")
        if len(models) != 1:
            raise PipelineError(f"{where} names {len(models)} models ({', '.join(models)[:_MOST_OF_AN_ERROR]}): choose one with --model")
        return models[0]


def _parsed(value: bytes) -> dict[str, Any]:
    try:
        event = json.loads(value)
    except ValueError:
        raise _FailedError("failed") from None
    if not isinstance(event, dict) or "error" in event:
        raise _FailedError("failed")
    return event


def _take(event: dict[str, Any], stream: _Stream) -> None:
    """Add one event of https://platform.openai.com/docs/api-reference/chat-streaming to what has come."""
    try:
        for choice in event.get("choices") or []:
            if piece := (choice.get("delta") or {}).get("content"):
                stream.text += piece
                stream.pieces_ms.append(stream.last_ms)
            stream.ended = choice.get("finish_reason") or stream.ended
        if usage := event.get("usage"):
            stream.tokens = int(usage["completion_tokens"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _FailedError("failed") from None
