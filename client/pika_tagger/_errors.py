"""What can go wrong between a robot and the tagger, as one small tree.

TaggerError                  base; `status` is the gRPC status behind it, such as "INTERNAL", or None
├── InvalidSettingError      a setting of the client cannot work, the url for example; also a ValueError
├── ClientClosedError        the client was used after close()
├── InvalidRequestError      the tagger refused the dialogue (INVALID_ARGUMENT), or it cannot be sent: do not send it again unchanged
├── TaggerConnectionError    no server answers at the url (UNAVAILABLE)
├── TaggerTimeoutError       no answer within the deadline (DEADLINE_EXCEEDED), or not ready in time
├── ServerBusyError          the server's queue is full: the same request may succeed a moment later
└── ServerError              the server failed, or sent what a tagger does not send

Every message says what to do next, and none contains what a child or Pika said.
Add a class only where a caller would treat it differently.
"""


class TaggerError(Exception):
    """Base of all errors of this library."""

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class InvalidSettingError(TaggerError, ValueError):
    """A setting of the client cannot work."""


class ClientClosedError(TaggerError):
    """The client was used after it had been closed."""


class InvalidRequestError(TaggerError):
    """The dialogue was refused, or cannot be sent."""


class TaggerConnectionError(TaggerError):
    """No server answers at the url."""


class TaggerTimeoutError(TaggerError):
    """No answer came within the deadline."""


class ServerBusyError(TaggerError):
    """The server's queue is full."""


class ServerError(TaggerError):
    """The server failed, or sent what a tagger does not send."""
