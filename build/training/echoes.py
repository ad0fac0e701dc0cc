"""Pika repeats the child's words: the way grown-ups confirm an answer, and also the way they respond to anything else."""

import random
import re

MAX_WORDS = 8
"""A longer utterance is not repeated."""

_FRAMES = {
    "vi": (
        "{Said}, {line}",
        "{Said}! {line}",
        "Ừ, {said}. {line}",
        "{line} {Said} đó!",
        "{Said} đấy! {line}",
        "{line} Là {said}.",
        "À, {said}! {line}",
    ),
    "en": ("{Said}! {line}", "Yes, {said}. {line}", "{line} {Said}!", "{line} It's {said}.", "{Said}, {line}", "Ah, {said}! {line}"),
}
_BEFORE = re.compile(
    r"^((dạ|ừm+|ơ|à|ờ|hihi|em nghĩ là|con nghĩ là|chắc là|là|um+|uh+|well|oh|i think|i know|it's|is it|because|tại vì)\b[\s,.…!]*)+",
    re.IGNORECASE,
)
_AFTER = re.compile(r"([\s,]*\b(ạ|nha|nè|đó|á|ha|cô|pika ơi|pika|đúng không|phải không|right))*[\s.!?,…]*$", re.IGNORECASE)


def echo(rng: random.Random, child: str, line: str, lang: str) -> str:
    """The line with the heart of the child's words in it; the line as it is if there is none or too much."""
    said = _AFTER.sub("", _BEFORE.sub("", child.strip()))
    if not 1 <= len(said.split()) <= MAX_WORDS:
        return line
    frame = rng.choice(_FRAMES[lang])
    return frame.replace("{line}", line).replace("{Said}", said[:1].upper() + said[1:]).replace("{said}", said[:1].lower() + said[1:])
