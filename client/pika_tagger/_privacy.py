"""Whether a server's words may be repeated in an error message.

Children's words are private, and a server may quote its input when it fails. The check errs on the side of silence.
"""

import json
from collections.abc import Iterable

_SHARED_RUN = 12
"""So many characters in common with the dialogue are a quotation."""
_SHORTEST = 4
"""Shorter texts are not looked for: "no" is part of too many words, and gives nobody away."""
_MAX_DETAIL = 300

WITHHELD = "the server's message quotes the dialogue and is not repeated here"


def safe_detail(detail: str | None, texts: Iterable[str]) -> str:
    """Return `detail` as one short line, or a remark in its place if it quotes one of `texts`."""
    line = _one_line(detail or "no details")
    if any(_quotes(line, form) for text in texts for form in _written_forms(text)):
        return WITHHELD
    return line if len(line) <= _MAX_DETAIL else line[:_MAX_DETAIL] + "..."


def _written_forms(text: str) -> set[str]:
    """Return `text` as it may stand in a message: as it is, escaped as JSON or Python write it, or as bytes."""
    return {_one_line(form) for form in (text, json.dumps(text)[1:-1], ascii(text)[1:-1], repr(text.encode("utf-8", "replace"))[2:-1])}


def _quotes(line: str, text: str) -> bool:
    if len(text) < _SHORTEST:
        return False
    line, text = line.casefold(), text.casefold()
    width = min(_SHARED_RUN, len(text), len(line))
    return any(line[start : start + width] in text for start in range(len(line) - width + 1))


def _one_line(text: str) -> str:
    return " ".join(text.split())
