"""What can go wrong between a robot and the tagger, as one small tree.

TaggerError                  base; `status` is the gRPC status behind it, such as "INTERNAL", or None
├── InvalidSettingError      a setting of the client cannot work, the url for example; also a ValueError
├── ClientClosedError        the client was used after close(), or where its connection does not exist: another process, another event loop
├── InvalidRequestError      the tagger refused the dialogue (INVALID_ARGUMENT), or it cannot be sent: do not send it again unchanged
├── AccessDeniedError        the server wants a key, a token or a certificate that it did not get
├── TaggerConnectionError    no server answers at the url (UNAVAILABLE), or one that is just stopping
├── TaggerTimeoutError       no answer within the budget or the deadline (DEADLINE_EXCEEDED), or not ready in time
├── ServerBusyError          the server's queue is full, or too many calls wait for it: the same request may succeed a moment later
└── ServerError              the server failed, or sent what a tagger does not send

Every message says what to do next, and none contains what a child or Pika said. `reason` is one word for the same, which a fallback tag
carries and which suits a counter. A `VersionWarning` is no error: tags still come, perhaps without what one side is too old for.
Add a class only where a caller would treat it differently.
"""

from typing import ClassVar


class TaggerError(Exception):
    """Base of all errors of this library."""

    reason: ClassVar[str] = "error"

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class InvalidSettingError(TaggerError, ValueError):
    """A setting of the client cannot work."""

    reason = "setting"


class ClientClosedError(TaggerError):
    """The client was used after it had been closed, or in a process or event loop that is not its own."""

    reason = "closed"


class InvalidRequestError(TaggerError):
    """The dialogue was refused, or cannot be sent."""

    reason = "refused"


class AccessDeniedError(TaggerError):
    """The server wants a key, a token or a certificate that it did not get."""

    reason = "denied"


class TaggerConnectionError(TaggerError):
    """No server answers at the url."""

    reason = "unreachable"


class TaggerTimeoutError(TaggerError):
    """No answer came within the budget or the deadline."""

    reason = "late"


class ServerBusyError(TaggerError):
    """The server's queue is full, or too many calls wait for it."""

    reason = "busy"


class ServerError(TaggerError):
    """The server failed, or sent what a tagger does not send."""

    reason = "failed"


class VersionWarning(UserWarning):
    """Client, server and prompt do not all speak the same form."""
