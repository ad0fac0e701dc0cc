"""The values that callers receive: frozen, comparable, picklable.

Fields may be added here, never removed or renamed: robots read them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


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
    """What the tagger says about one line of Pika.

    Attributes:
        emotion_name: The face to show while Pika says its line, one of the server's labels.
        celebrate: Whether Pika confirms a fact that the child got right.
        emotion_scores: Probability of every label, in the server's order.
        celebrate_score: Probability of celebrate being yes.
        latency_ms: How long the request took, seen from here.
    """

    emotion_name: str
    celebrate: bool
    emotion_scores: Mapping[str, float] = field(hash=False)
    celebrate_score: float
    latency_ms: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "emotion_scores", Scores(self.emotion_scores))

    @property
    def confidence(self) -> float:
        """Probability of the chosen emotion."""
        return self.emotion_scores[self.emotion_name]

    def json(self) -> str:
        """Return the two fields as robots exchange them: `{"emotion_name": "proud", "celebrate": "yes"}`."""
        return json.dumps({"emotion_name": self.emotion_name, "celebrate": "yes" if self.celebrate else "no"}, ensure_ascii=False)
