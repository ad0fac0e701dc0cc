"""What a failed call means: from gRPC's status and the server's words to one of our errors.

The README's table of failures says the same and changes with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pika_tagger._channel import MAX_MESSAGE_BYTES
from pika_tagger._errors import (
    AccessDeniedError,
    InvalidRequestError,
    ServerBusyError,
    ServerError,
    TaggerConnectionError,
    TaggerError,
    TaggerTimeoutError,
)
from pika_tagger._privacy import safe_detail

_Meaning = tuple[type[TaggerError], str]
_DENIED: _Meaning = (
    AccessDeniedError,
    "{target} refused access ({said}): give the key or token that it wants as metadata, for a restricted protocol as "
    '{{"triton-grpc-protocol-KEY": "VALUE"}}',
)
_NOT_READY: _Meaning = (
    TaggerConnectionError,
    "{target} cannot be reached or is not ready ({said}): start the server, or give HOST:PORT of its gRPC endpoint (not of HTTP), "
    "and tls if and only if the server has it",
)
_MEANINGS: dict[str, _Meaning] = {
    "INVALID_ARGUMENT": (InvalidRequestError, "{target} refused the dialogue ({said}): correct the field it names"),
    "DEADLINE_EXCEEDED": (
        TaggerTimeoutError,
        "no answer from {target} within {deadline_s:g} s ({said}): check the server's load and the network, or give a longer timeout",
    ),
    "UNAVAILABLE": _NOT_READY,
    "CANCELLED": _NOT_READY,  # by the server, which has come to its end: this side cancels only in `close`
    "NOT_FOUND": (ServerError, "no {target} ({said}): check model_name and what the server has loaded"),
    "UNIMPLEMENTED": (ServerError, "what listens for {target} is not Triton's gRPC endpoint ({said}): check the url"),
    "UNAUTHENTICATED": _DENIED,
    "PERMISSION_DENIED": _DENIED,
}
# What Triton 2.51 was seen to answer for the seconds in which it unloads its models after SIGTERM: the first for new requests, the second
# where the tagger had one half done and asked the engine once more.
_STOPPING = ("has no available versions", "server not ready")
_OVERLOAD: _Meaning = (ServerBusyError, "{target} is overloaded ({said}): send it again a little later, or add a server")
_TOO_LARGE: _Meaning = (InvalidRequestError, f"the dialogue is larger than {MAX_MESSAGE_BYTES} bytes ({{said}}): send a shorter one")
_FAILURE: _Meaning = (ServerError, "{target} failed ({said}): see the server's log, and restart it if this goes on")


@dataclass(frozen=True)
class Target:
    """Whom a call went to, for error messages."""

    url: str
    model_name: str

    def __str__(self) -> str:
        return f"model {self.model_name!r} at {self.url}"


def error_from(status: str, detail: str, *, target: Target, deadline_s: float, texts: Iterable[str]) -> TaggerError:
    """Return the error to raise for a failed call.

    Args:
        status: gRPC's name of the status, such as "UNAVAILABLE".
        detail: What server or library say about it.
        target: Whom the call went to.
        deadline_s: How long it was allowed to take.
        texts: What was said in the call, and must not be in the message.
    """
    kind, template = _MEANINGS.get(status, _FAILURE)
    words = detail.lower()
    if status == "UNAVAILABLE" and ("queue" in words or "request timeout expired" in words):  # full, or waited in it for too long
        kind, template = _OVERLOAD
    elif status == "UNAVAILABLE" and "protocol is restricted" in words:
        kind, template = _DENIED
    elif status == "RESOURCE_EXHAUSTED" and "sent message larger" in words:
        kind, template = _TOO_LARGE
    elif status in ("NOT_FOUND", "INTERNAL") and any(sign in words for sign in _STOPPING):
        kind, template = _NOT_READY
    said = f"{status}: {safe_detail(detail, texts)}"
    return kind(template.format(target=target, said=said, deadline_s=deadline_s), status=status)
