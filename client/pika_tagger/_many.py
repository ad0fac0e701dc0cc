"""What `tag_many` checks before it sends anything: a typing error in the last item must not cost the answers to all others."""

from collections.abc import Iterable
from typing import Any

from pika_tagger._errors import InvalidRequestError, InvalidSettingError
from pika_tagger._types import Dialogue

DEFAULT_CONCURRENCY = 8
_REQUIRED = {"user_last_message", "pika_response"}
_KNOWN = {*_REQUIRED, "pika_last_message"}


def checked_dialogues(dialogues: Iterable[Dialogue]) -> list[Dialogue]:
    """Return the dialogues as a list.

    Raises:
        InvalidRequestError: One is no mapping, lacks a text, or has a field or a type that is none of `tag`'s; it is named by its place.
    """
    checked = list(dialogues)
    for place, dialogue in enumerate(checked):
        fields: dict[Any, Any] = dict(dialogue) if hasattr(dialogue, "keys") else {}
        if not _REQUIRED <= fields.keys() <= _KNOWN:
            raise InvalidRequestError(
                f"dialogue {place} is none: give a dict of user_last_message, pika_response and, if known, pika_last_message"
            )
        for name, value in fields.items():
            if not isinstance(value, str) and (value is not None or name in _REQUIRED):
                raise InvalidRequestError(f"dialogue {place}: {name} is of type {type(value).__name__}: give a str")
    return checked


def checked_concurrency(concurrency: int) -> int:
    """Return `concurrency`, or raise InvalidSettingError."""
    if not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidSettingError(f"concurrency is {concurrency!r}: give a whole number above 0")
    return concurrency
