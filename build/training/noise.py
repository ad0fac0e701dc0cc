"""How children and speech recognition misspell: case, punctuation, diacritics, typing errors, fillers, emoji, other pronouns.

Every change keeps the label: what would change the emotion (another interjection, a question at the end) does not belong here.
"""

import random
import re
import string
import unicodedata
from dataclasses import replace

from one_pass import Dialogue

_EMOJI = ("😊", "🙂", "✨", "🌟", "⭐", "🤖", ":)", "^^", "💛", "🌈")
_CHILD_FILLERS = ("ừm", "ờ", "à", "dạ", "ơ", "hihi", "um", "uh", "er", "well", "Pika ơi", "Pika,", "hey Pika", "ê")
_PIKA_FILLERS = ("À,", "Ừ,", "Này,", "Dạ,", "Oh,", "Well,", "Hey,", "Hi hi,", "Ồ,")
_CHILD_TAILS = ("ạ", "nè", "đó", "á", "nha", "Pika", "Pika ơi", "you know")
_PIKA_TAILS = ("nhé", "nha", "nè", "đấy", "cậu ạ", "con nhé", "bạn nhỏ ơi", "my friend", "little one", "buddy")
_STRAY = (
    "haha",
    "hehe",
    "hihi",
    "hì hì",
    "ừ",
    "ờ",
    "à",
    "ơ",
    "hmm",
    "um",
    "uh",
    "ha",
    "ok",
    "[noise]",
    "(cười)",
    "(laughs)",
    "...",
    "-",
    "***",
)
"""What a recognizer makes of other sounds; letters at random come besides."""
_ADDRESS = (("tớ", "cậu"), ("mình", "bạn"), ("Pika", "con"), ("cô", "con"), ("tớ", "con"), ("Pika", "em"), ("mình", "cậu"), ("Pika", "bé"))
_NAMES = ("An", "Bi", "Na", "Minh", "Bống", "Lily", "Tom", "Mia", "Bin", "Su", "Max", "Emma")
UNPUNCTUATED_SHARE, BARE_SHARE = 0.3, 0.08
"""Shares of dialogues in which all lines are without punctuation, or without accents, as from a careless recognizer."""
_DIACRITICS = {"đ": "d", "Đ": "D"}


def disturb(rng: random.Random, dialogue: Dialogue) -> Dialogue:
    """The same dialogue, said or written down differently."""
    if rng.random() < 0.4:
        dialogue = _address(rng, dialogue)
    before = dialogue.pika_last_message
    dialogue = replace(
        dialogue,
        user_last_message=_field(rng, dialogue.user_last_message, _CHILD_FILLERS, _CHILD_TAILS, 0.5),
        pika_response=_field(rng, dialogue.pika_response, _PIKA_FILLERS, _PIKA_TAILS, 0.4),
        pika_last_message=None if before is None else _field(rng, before, (), (), 0.2),
    )
    for change, share in ((_unpunctuated, UNPUNCTUATED_SHARE), (strip_diacritics, BARE_SHARE)):
        if rng.random() < share:
            dialogue = Dialogue(**{name: text and change(text) for name, text in vars(dialogue).items()})
    return dialogue


def strip_diacritics(text: str, rng: random.Random | None = None, share: float = 1.0) -> str:
    """Text without Vietnamese accents, or with only a share of its words stripped."""
    words = text.split(" ")
    return " ".join(_bare(w) if rng is None or rng.random() < share else w for w in words)


def _field(rng: random.Random, text: str, fillers: tuple[str, ...], tails: tuple[str, ...], rate: float) -> str:
    if not text or rng.random() > rate:
        return text
    disturbed = _spelling(rng, _words(rng, text, fillers, tails))
    return disturbed if disturbed.strip() else "…"


def _words(rng: random.Random, text: str, fillers: tuple[str, ...], tails: tuple[str, ...]) -> str:
    if fillers and rng.random() < 0.25:
        text = f"{rng.choice(fillers)} {text}"
    if tails and rng.random() < 0.15:
        text = _before_end(text, rng.choice(tails))
    if rng.random() < 0.15:
        text = _before_end(text, rng.choice(_NAMES), ", ")
    if rng.random() < 0.2:
        stray = _stray(rng)
        text = f"{stray} {text}" if rng.random() < 0.5 else f"{text} {stray}"
    return _stutter(rng, text) if rng.random() < 0.05 else text


def _spelling(rng: random.Random, text: str) -> str:
    if rng.random() < 0.2:
        text = strip_diacritics(text, rng, rng.choice((0.3, 1.0)))
    if rng.random() < 0.3:
        text = _unpunctuated(text)
    elif rng.random() < 0.3:
        text = re.sub(r"[.!…]+$", lambda _: rng.choice(("", ".", "!", "!!", "!!!", "...", "~")), text)
    if rng.random() < 0.3:
        text = text.lower()
    elif rng.random() < 0.06:
        text = text.upper()
    if text and rng.random() < 0.2:
        text = _typo(rng, text)
    if rng.random() < 0.1:
        emoji = rng.choice(_EMOJI)
        text = f"{text} {emoji}" if rng.random() < 0.8 else f"{emoji} {text}"
    return text


def _unpunctuated(text: str) -> str:
    bare = re.sub(r"[^\w\s{}+=×'-]+", " ", text)
    return re.sub(r"\s+", " ", bare).strip() or text


def _stray(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(_STRAY)
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(1, 6)))


def _stutter(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    i = rng.randrange(len(words))
    return " ".join([*words[: i + 1], *words[i:]])


def _before_end(text: str, word: str, glue: str = " ") -> str:
    body = text.rstrip(" .!?…~")
    return f"{body}{glue}{word}{text[len(body) :]}" if body else text


def _bare(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(_DIACRITICS.get(c, c) for c in decomposed if not unicodedata.combining(c))


def _typo(rng: random.Random, text: str) -> str:
    i = rng.randrange(len(text))
    if any(c.isdigit() for c in text[max(i - 1, 0) : i + 1]):
        return text  # another number would be another answer
    kind = rng.random()
    if kind < 0.3:
        return text[:i] + text[i + 1 :]
    if kind < 0.6:
        return text[:i] + text[i] * rng.choice((2, 3)) + text[i + 1 :]
    return text[: i - 1] + text[i] + text[i - 1] + text[i + 1 :] if i else text


def _address(rng: random.Random, dialogue: Dialogue) -> Dialogue:
    """Other pronouns: Vietnamese has many for speaker and child, and Pika's owner chooses."""
    me, you = rng.choice(_ADDRESS)

    def swap(text: str) -> str:
        text = re.sub(r"\btớ\b", me, text)
        text = re.sub(r"\bTớ\b", me[0].upper() + me[1:], text)
        text = re.sub(r"\bcậu\b", you, text)
        return re.sub(r"\bCậu\b", you[0].upper() + you[1:], text)

    before = dialogue.pika_last_message
    return replace(dialogue, pika_response=swap(dialogue.pika_response), pika_last_message=None if before is None else swap(before))
