"""Settings of a client, checked once, and the values that hold unless others are given.

A new setting is an argument of both clients, a field here with its check, and a line in docs/client.md.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pika_tagger._channel import Endpoint, Tls
from pika_tagger._errors import InvalidSettingError
from pika_tagger._statuses import Target

OnFailure = Literal["fallback", "raise"]
Metadata = tuple[tuple[str, str], ...]

DEFAULT_URL = "localhost:8001"
DEFAULT_BUDGET_MS = 50.0
DEFAULT_TIMEOUT_S = 1.0
DEFAULT_FALLBACK_EMOTION = "calm"
DEFAULT_MAX_UNANSWERED = 128
"""Calls that may be under way: 50 a second that all run into the deadline of a second, twice over and more. One holds a few KiB."""

# gRPC's own rule: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, Custom-Metadata; names ending in -bin hold bytes.
_METADATA_NAME = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class Settings:
    """What `TaggerClient` describes argument by argument."""

    target: Target
    endpoint: Endpoint
    budget_ms: float
    timeout_s: float
    on_failure: OnFailure
    fallback_emotion: str
    metadata: Metadata = field(repr=False)
    max_unanswered: int

    @classmethod
    def checked(
        cls,
        url: str | Sequence[str],
        *,
        budget_ms: float,
        timeout_s: float,
        on_failure: OnFailure,
        fallback_emotion: str,
        model_name: str,
        tls: Tls | None,
        metadata: Mapping[str, str] | None,
        max_unanswered: int,
    ) -> "Settings":
        """Return the settings, or raise InvalidSettingError with the one that cannot work."""
        if not isinstance(fallback_emotion, str) or not fallback_emotion:
            raise InvalidSettingError(f"fallback_emotion is {fallback_emotion!r}: give the name of the face to show, such as calm")
        if not isinstance(max_unanswered, int) or max_unanswered < 1:
            raise InvalidSettingError(f"max_unanswered is {max_unanswered!r}: give a whole number above 0")
        return cls(
            target=Target(url if isinstance(url, str) else ", ".join(map(str, url)), model_name),
            endpoint=Endpoint.of(url, tls),
            budget_ms=positive("budget_ms", budget_ms, "milliseconds, or math.inf to wait for the deadline", limit=math.inf),
            timeout_s=positive("timeout_s", timeout_s, "seconds"),
            on_failure=checked_on_failure(on_failure),
            fallback_emotion=fallback_emotion,
            metadata=checked_metadata(metadata),
            max_unanswered=max_unanswered,
        )


def positive(name: str, value: float, unit: str, limit: float = 1e9) -> float:
    """Return `value` if it is a number above 0 and not above `limit`, or raise InvalidSettingError."""
    if not (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= limit):
        raise InvalidSettingError(f"{name} is {value!r}: give a number of {unit}, above 0")
    return value


def checked_on_failure(on_failure: OnFailure) -> OnFailure:
    """Return `on_failure`, or raise InvalidSettingError."""
    if on_failure not in ("fallback", "raise"):
        raise InvalidSettingError(f"on_failure is {on_failure!r}: give 'fallback' or 'raise'")
    return on_failure


def checked_metadata(metadata: Mapping[str, str] | None) -> Metadata:
    """Return `metadata` as gRPC takes it, names in lower case, or raise InvalidSettingError, which never shows a value."""
    found = tuple((str(name).lower(), value) for name, value in (metadata or {}).items())
    for name, value in found:
        if not _METADATA_NAME.fullmatch(name):
            raise InvalidSettingError(
                f"metadata {name!r} is no name for it: use letters, digits, '-', '_' and '.', not grpc-... or ...-bin"
            )
        if not isinstance(value, str) or not _METADATA_VALUE.fullmatch(value):
            raise InvalidSettingError(f"the value of metadata {name!r} cannot be sent: give a str of printable ASCII")
    return found
