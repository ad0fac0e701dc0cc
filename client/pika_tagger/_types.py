"""The values that callers give and receive: frozen, comparable, picklable.

Fields may be added here, never removed or renamed: robots read them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from pika_tagger._errors import TaggerError


class _Said(TypedDict):
    user_last_message: str
    pika_response: str


class Dialogue(_Said, total=False):
    """What was said, as a dict with the names that `tag` has for it; `pika_last_message` may be missing."""

    pika_last_message: str | None


class Scores(Mapping[str, float]):
    """Probabilities by label, in the server's order; read-only.

    `types.MappingProxyType` would do, but it can be neither pickled nor deep-copied, and tags cross process borders.
    """

    __slots__ = ("_scores",)

    def __init__(self, scores: Mapping[str, float]) -> None:
        self._scores = dict(scores)

    def __getitem__(self, label: str) -> float:
        return self._scores[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __repr__(self) -> str:
        return repr(self._scores)


@dataclass(frozen=True)
class Tag:
    """What the tagger says about one line of Pika, or what stands in for it.

    Attributes:
        emotion_name: The face to show while Pika says its line, one of the server's labels.
        celebrate: Whether Pika confirms a fact that the child got right.
        emotion_scores: Probability of every label, in the server's order; empty in a fallback.
        celebrate_score: Probability of celebrate being yes; 0 in a fallback.
        latency_ms: How long the caller waited.
        error: Why this is a fallback; None for a real tag. It holds no dialogue, but no equality depends on it either.
    """

    emotion_name: str
    celebrate: bool
    emotion_scores: Mapping[str, float] = field(hash=False)
    celebrate_score: float
    latency_ms: float
    error: TaggerError | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "emotion_scores", Scores(self.emotion_scores))

    @property
    def fallback(self) -> bool:
        """Whether this stands in for a tag that did not come."""
        return self.error is not None

    @property
    def fallback_reason(self) -> str | None:
        """Why this is a fallback, in one word: late, unreachable, busy, denied, refused or failed; None for a real tag."""
        return None if self.error is None else self.error.reason

    @property
    def confidence(self) -> float:
        """Probability of the chosen emotion; 0 in a fallback."""
        return self.emotion_scores.get(self.emotion_name, 0.0)

    def json(self) -> str:
        """Return the two fields as robots exchange them: `{"emotion_name": "proud", "celebrate": "yes"}`."""
        return json.dumps({"emotion_name": self.emotion_name, "celebrate": "yes" if self.celebrate else "no"}, ensure_ascii=False)


@dataclass(frozen=True)
class ServerInfo:
    """Who answers.

    Attributes:
        triton_version: Such as "2.51.0"; None where the server does not tell (it may restrict its metadata).
        model_name: The Triton model that is asked.
        prompt_schema: Name and version of the task file that the prompt is made from, such as "pika_mood/1".
        strategy: How the model is asked by default.
        labels: The emotions, in the order of the scores.
    """

    triton_version: str | None
    model_name: str
    prompt_schema: str | None
    strategy: str | None
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """What a client has done so far; health checks are not counted.

    Attributes:
        tags: Real tags that reached their caller.
        fallbacks: Fallback tags and raised errors, by `TaggerError.reason`.
        late: Tags that came when nobody waited any more.
        retried: How often a call was sent once more because no server took it.
        unanswered: Calls that have not ended yet, right now.
    """

    tags: int
    fallbacks: Mapping[str, int] = field(hash=False)
    late: int
    retried: int
    unanswered: int
