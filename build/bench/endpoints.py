"""What a benchmark asks: the form that both kinds of endpoints have, and what comes back for one request.

A third kind of endpoint is a class with these methods, and a line in `asked.opened`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from pika_tagger._labelled import Labelled, Row
from pika_tagger._load import Sample
from pika_tagger._server_split import Split


@dataclass(frozen=True)
class Answer(Sample):
    """One request and what came of it.

    Attributes:
        line: Of the file with the dialogues.
        due_s: When the request was due, in seconds of `time.monotonic`.
        pieces_ms: When each piece of the answer's text came, in milliseconds from when the request was due; empty if it came whole.
        output_tokens: Tokens of the answer; None if nobody says.
        emotion_name: The label in the answer; None if there is no answer, or none that can be used.
        celebrate: The flag in it, likewise.
        cut: Whether the server stopped writing at `max_tokens`.
        judged: Whether anybody looked into the answer; if not, every whole answer counts as usable.
    """

    line: int
    due_s: float
    pieces_ms: tuple[float, ...] = ()
    output_tokens: int | None = None
    emotion_name: str | None = None
    celebrate: bool | None = None
    cut: bool = False
    judged: bool = True

    @property
    def first_ms(self) -> float:
        """Milliseconds until something of the answer was there; all of it, if it comes whole."""
        return self.pieces_ms[0] if self.pieces_ms else self.latency_ms

    @property
    def usable(self) -> bool:
        """Whether a robot could have used the answer."""
        return self.failure is None and (self.emotion_name is not None or not self.judged)


class Endpoint(Protocol):
    """A server that can be asked by many threads at a time."""

    @property
    def about(self) -> dict[str, Any]:
        """Who is asked, and how, for the report; no keys, no dialogue."""

    def check(self, labelled: Labelled) -> None:
        """Raise BadFileError if the file uses labels that this endpoint does not know."""

    def ask(self, row: Row, due_s: float) -> Answer:
        """Ask about one dialogue. What goes wrong with a request is its `failure`, in one word, and raises nothing."""

    def splits(self) -> dict[str, Split]:
        """Return the server's own statistics so far, by model; empty where it has none that we can read."""

    def close(self) -> None:
        """Close all connections."""
