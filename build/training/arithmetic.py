"""Sums, differences, products and number neighbours as facts, in figures and in words."""

import random

from build.training.frames import Fact, Split, split_of

_VI = ["không", "một", "hai", "ba", "bốn", "năm", "sáu", "bảy", "tám", "chín", "mười"]
_EN = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_ASK = {"vi": ("{x} bằng mấy", "{x} bằng bao nhiêu", "{x} là mấy"), "en": ("What is {x}", "How much is {x}", "What does {x} make")}
_STATE = {"vi": ("{x} bằng {y}", "{x} là {y}", "{x} = {y}"), "en": ("{x} is {y}", "{x} equals {y}", "{x} makes {y}", "{x} = {y}")}
_NEXT: dict[str, tuple[str, str]] = {
    "vi": ("Số nào đứng sau số {x}", "sau số {x} là số {y}"),
    "en": ("Which number comes after {x}", "{y} comes after {x}"),
}
_SIGNS: dict[str, dict[str, tuple[str, ...]]] = {
    "+": {"vi": ("+", "cộng", "thêm"), "en": ("+", "plus", "and")},
    "-": {"vi": ("-", "trừ", "bớt"), "en": ("-", "minus", "take away")},
    "x": {"vi": ("x", "nhân"), "en": ("x", "times")},
}


def fact(rng: random.Random, lang: str, split: Split) -> Fact:
    """A random arithmetic fact of that split; which numbers belong to which split is decided by their hash."""
    while True:
        sign = rng.choice(("+", "+", "-", "x", "next"))
        a, b = rng.randint(1, 12), rng.randint(1, 10)
        if sign == "-" and b > a:
            a, b = b, a
        if split_of(f"{a}{sign}{b}") == split:
            return _state(rng, lang, split, sign, a, b)


def _state(rng: random.Random, lang: str, split: Split, sign: str, a: int, b: int) -> Fact:
    result = {"+": a + b, "-": a - b, "x": a * b, "next": a + 1}[sign]
    in_words = rng.random() < 0.4
    near = sorted({result + d for d in (-2, -1, 1, 2, 10)} - {result, -1, -2})
    y, wrong = _number(result, lang, in_words), [_number(n, lang, in_words) for n in near]
    if sign == "next":
        ask, state = _NEXT[lang]
        x = _number(a, lang, in_words)
    else:
        ask, state = rng.choice(_ASK[lang]), rng.choice(_STATE[lang])
        x = _term(rng, lang, sign, a, b, in_words)
    statements = [state.format(x=x, y=w) for w in wrong]
    question = ask.format(x=x)
    return Fact(question[:1].upper() + question[1:], y, state.format(x=x, y=y), (*wrong, *statements), lang, split)


def _term(rng: random.Random, lang: str, sign: str, a: int, b: int, in_words: bool) -> str:
    symbol, *words = _SIGNS[sign][lang]
    if in_words:
        return f"{_number(a, lang, True)} {rng.choice(words)} {_number(b, lang, True)}"
    space = rng.choice(("", " "))
    return f"{a}{space}{symbol}{space}{b}" if rng.random() < 0.6 else f"{a} {rng.choice(words)} {b}"


def _number(n: int, lang: str, in_words: bool) -> str:
    names = _VI if lang == "vi" else _EN
    return names[n] if in_words and 0 <= n < len(names) else str(n)
