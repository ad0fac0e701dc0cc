"""How a line is written down must not matter: case, punctuation, accents, emoji and noise flip at most 3 % of the decisions.

A dialogue has two decisions, emotion and celebrate. All of a dialogue's lines are disturbed at once, which is harder than one at a time.
"""

import re
from collections.abc import Callable

import pytest

from build.training.noise import strip_diacritics
from pika_tagger import Tag, TaggerClient

pytestmark = pytest.mark.e2e

MOST_FLIPS = 0.03

Change = Callable[[str], str]


def without_punctuation(text: str) -> str:
    """Words and sums only."""
    return " ".join(re.sub(r"[^\w\s+=×<>*/-]", " ", text).split())


CHANGES: dict[str, Change] = {
    "capitals": str.upper,
    "small letters": str.lower,
    "titles": str.title,
    "no accents": strip_diacritics,
    "no accents in capitals": lambda text: strip_diacritics(text).upper(),
    "no punctuation": without_punctuation,
    "no punctuation, small letters": lambda text: without_punctuation(text).lower(),
    "no end": lambda text: text.rstrip(".!?… "),
    "exclamations": lambda text: text.rstrip(".!") + "!!!",
    "trailing dots": lambda text: text.rstrip(".!") + "...",
    "emoji after": lambda text: f"{text} 😊🌟",
    "emoji before": lambda text: f"😂 {text}",
    "leading noise": lambda text: f"  ... {text}",
    "trailing noise": lambda text: f"{text}  ~~ --",
    "zero-width joiners": lambda text: "\u200d".join(text),
}


@pytest.fixture(scope="module")
def plain(client: TaggerClient, evaluation: list[dict[str, str]]) -> list[Tag]:
    """Tags of the hand-written dialogues as they stand."""
    return [tag(client, row, lambda text: text) for row in evaluation]


def tag(client: TaggerClient, row: dict[str, str], change: Change) -> Tag:
    """The tag of a dialogue with all its lines changed; a line that nothing is left of stays as it was."""
    names = ("user_last_message", "pika_response", "pika_last_message")
    return client.tag(**{name: change(row[name]) or row[name] for name in names if name in row})


@pytest.mark.parametrize("name", CHANGES)
def test_few_decisions_flip(client: TaggerClient, evaluation: list[dict[str, str]], plain: list[Tag], name: str) -> None:
    changed = [tag(client, row, CHANGES[name]) for row in evaluation]
    emotions = sum(before.emotion_name != after.emotion_name for before, after in zip(plain, changed, strict=True))
    flags = sum(before.celebrate != after.celebrate for before, after in zip(plain, changed, strict=True))
    assert (emotions + flags) / (2 * len(plain)) <= MOST_FLIPS, f"{emotions} emotions and {flags} flags of {len(plain)} dialogues"


def test_another_line_has_another_tag(client: TaggerClient, plain: list[Tag], evaluation: list[dict[str, str]]) -> None:
    """That nothing flips must not come from tagging everything alike."""
    others = [{**row, "pika_response": other["pika_response"]} for row, other in zip(evaluation, evaluation[::-1], strict=True)]
    mirrored = [tag(client, row, str) for row in others]
    assert sum(a.emotion_name != b.emotion_name for a, b in zip(plain, mirrored, strict=True)) > len(plain) / 2
