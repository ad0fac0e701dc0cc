"""From frames to labelled dialogues; and whole dialogues, which were written as such.

What is made of frames starts with a line of Pika's, which has the emotion; a child's utterance of a kind that the line can answer is put
before it, and sometimes what Pika had said before that. `celebrate` follows from the kind alone: yes if the child was right and the line
confirms it. Slots have one value throughout a dialogue. Misspellings and other noise are added by `noise.py`.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from build.training import arithmetic, echoes, frames, noise
from build.training.frames import Fact, Frame, Split
from one_pass import Dialogue

WRITTEN_SHARE = 0.4
"""Share of dialogues that were written whole: they hang together better than any that are put together from frames."""
CONFIRM_SHARE = 0.22
"""Share of dialogues that are drawn from the lines which confirm a right answer; the other draws find some too."""
AMBIGUOUS_SHARE = 0.12
"""Share drawn from lines which could confirm one, but answer something else here."""
BEFORE_SHARE = 0.35
"""Share of dialogues in which it is known what Pika had said before."""
ARITHMETIC_SHARE = 0.2
OTHER_LANGUAGE_SHARE = 0.05
"""Share of dialogues in which the child speaks the other language."""
JOINED_SHARE = 0.3
"""Share of lines that are two frames of the same emotion in a row."""
STATED_SHARE = 0.3
"""Share of confirmations which go on to state the fact in a sentence of its own."""
ASIDE_SHARE = 0.04
"""Share of other lines which end with some fact: stating one is not confirming one."""
OWN_WORDS_SHARE = 0.45
"""Share of right and wrong answers that are in the child's own words where the line allows it; the others come from the fact bank."""
ECHO_SHARE = {"confirm": 0.4, "opinion": 0.12, "idea": 0.12, "tells": 0.12, "effort": 0.12, "feel_good": 0.12}
"""Share of replies, by kind, in which Pika repeats what the child has said in its own words."""
SILENT_SHARE = 0.02


_SENTENCE_START = re.compile(r"(?:^|(?<=[.!?] ))\w")
_AN = re.compile(r"\b([Aa]) (?!eu|one|u[ktns]|uni)([aeiou])(?=[a-z]{2})")
"""The English article before a vowel, which a slot's word may bring."""


@dataclass(frozen=True)
class Labelled:
    """A dialogue with its right answers. `emotions` are all acceptable ones, the best first."""

    dialogue: Dialogue
    emotions: tuple[str, ...]
    celebrate: bool
    lang: str
    kind: str

    @property
    def emotion(self) -> str:
        """The best emotion."""
        return self.emotions[0]


class Corpus:
    """All frames, and a sampler over them."""

    def __init__(self, emotions: tuple[str, ...]) -> None:
        """Read and check the corpus files. Raises SourceError naming file and line."""
        self.emotions = emotions
        self._pika: dict[tuple[Split, str, str], list[Frame]] = defaultdict(list)
        for frame in frames.pika_frames(emotions):
            self._pika[frame.split, frame.emotion, frame.lang].append(frame)
        self._child = _by_kind(frames.other_frames("child"))
        self._before = _by_kind(frames.other_frames("before"))
        self._words = frames.slot_words()
        self._facts: dict[tuple[Split, str], list[Fact]] = defaultdict(list)
        for fact in frames.facts():
            self._facts[fact.split, fact.lang].append(fact)
        self._written: dict[Split, list[Labelled]] = defaultdict(list)
        for whole, split in _written():
            self._written[split].append(whole)

    def count(self, split: Split) -> dict[str, int]:
        """Frames of Pika's per emotion in a split."""
        return {e: sum(len(self._pika[split, e, lang]) for lang in frames.LANGUAGES) for e in self.emotions}

    def sample(self, rng: random.Random, split: Split, noisy: bool = True) -> Labelled:
        """One dialogue made only of frames and facts of that split."""
        if rng.random() < WRITTEN_SHARE and self._written[split]:
            whole = rng.choice(self._written[split])
            return replace(whole, dialogue=noise.disturb(rng, whole.dialogue)) if noisy else whole
        while True:
            lang = rng.choice(frames.LANGUAGES)
            line, kind = self._line(rng, split, lang)
            said = {"confirm": "right", "pass": "right"}.get(kind, kind)
            child_lang = lang if line.slots or rng.random() > OTHER_LANGUAGE_SHARE else _other(lang)
            if self._child[split, said, child_lang]:  # a small split may lack a kind
                break
        values = {slot: rng.choice(words) for (slot, word_lang), words in self._words.items() if word_lang == lang}
        values |= _fact_values(rng, self._fact(rng, split, child_lang if said in ("right", "wrong") else lang))
        child = self._child_text(rng, split, said, child_lang, line)
        # A right or wrong answer in the child's own words is about a fact that is not in the bank: nothing else may name one.
        banked = said not in ("right", "wrong") or bool(frames.slots_of(child) & frames.FACT_SLOTS)
        line_text = self._pika_text(rng, line, kind, banked)
        if not (banked and kind == "confirm") and child_lang == lang and rng.random() < ECHO_SHARE.get(kind, 0.0):
            line_text = echoes.echo(rng, child, line_text, lang)
        before = self._before_text(rng, split, said, lang, banked)
        dialogue = Dialogue(_fill(child, values), _fill(line_text, values), None if before is None else _fill(before, values))
        labelled = Labelled(dialogue, (line.emotion, *line.also), kind == "confirm", lang, kind)
        return replace(labelled, dialogue=noise.disturb(rng, dialogue)) if noisy else labelled

    def _line(self, rng: random.Random, split: Split, lang: str) -> tuple[Frame, str]:
        """A line of Pika's and the kind of utterance it answers. Emotions are equally frequent but for the two special draws."""
        draw = rng.random()
        pool = self._pika[split, rng.choice(self.emotions), lang]
        if draw < CONFIRM_SHARE:
            confirming = [line for line in pool if "confirm" in line.kinds]
            if confirming:
                return rng.choice(confirming), "confirm"
        elif draw < CONFIRM_SHARE + AMBIGUOUS_SHARE:
            ambiguous = [line for line in pool if "confirm" in line.kinds and len(line.kinds) > 1]
            if ambiguous:
                line = rng.choice(ambiguous)
                return line, rng.choice([kind for kind in line.kinds if kind != "confirm"])
        line = rng.choice(pool)
        return line, rng.choice(line.kinds)

    def _child_text(self, rng: random.Random, split: Split, said: str, lang: str, line: Frame) -> str:
        if said not in ("right", "wrong") and rng.random() < SILENT_SHARE:
            return ""
        pool = self._child[split, said, lang]
        if said in ("right", "wrong"):
            about_bank = bool(line.slots & frames.FACT_SLOTS) or rng.random() > OWN_WORDS_SHARE
            pool = [frame for frame in pool if bool(frame.slots & frames.FACT_SLOTS) == about_bank] or pool
        echoing = [frame for frame in pool if frame.slots & line.slots]
        return rng.choice(echoing if echoing and rng.random() < 0.7 else pool).text

    def _pika_text(self, rng: random.Random, line: Frame, kind: str, banked: bool) -> str:
        text = f"{line.text} {self._companion(rng, line, kind)}".strip() if rng.random() < JOINED_SHARE else line.text
        share = {"confirm": STATED_SHARE, "pass": 0.0, "wrong": 0.0}.get(kind, ASIDE_SHARE)
        if banked and not frames.slots_of(text) & frames.FACT_SLOTS and rng.random() < share:
            return f"{text} {{Fact}}."
        return text

    def _before_text(self, rng: random.Random, split: Split, said: str, lang: str, banked: bool) -> str | None:
        pool = [frame for frame in self._before[split, said, lang] if banked or not frame.slots & frames.FACT_SLOTS]
        return rng.choice(pool).text if pool and rng.random() < BEFORE_SHARE else None

    def _companion(self, rng: random.Random, line: Frame, kind: str) -> str:
        pool = [f for f in self._pika[line.split, line.emotion, line.lang] if kind in f.kinds and f.slots <= line.slots and f is not line]
        return rng.choice(pool).text if pool else ""

    def _fact(self, rng: random.Random, split: Split, lang: str) -> Fact:
        if rng.random() < ARITHMETIC_SHARE:
            return arithmetic.fact(rng, lang, split)
        return rng.choice(self._facts[split, lang])


def _written() -> Iterator[tuple[Labelled, Split]]:
    for row in frames.written_rows():
        dialogue = Dialogue(row["user_last_message"], row["pika_response"], row.get("pika_last_message"))
        whole = Labelled(dialogue, tuple(row["emotion"]), row["celebrate"] == "yes", row["lang"], "written")
        yield whole, frames.split_of(dialogue.pika_response)


def _by_kind(all_frames: Iterable[Frame]) -> dict[tuple[Split, str, str], list[Frame]]:
    pools: dict[tuple[Split, str, str], list[Frame]] = defaultdict(list)
    for frame in all_frames:
        pools[frame.split, frame.kinds[0], frame.lang].append(frame)
    return pools


def _fact_values(rng: random.Random, fact: Fact) -> dict[str, str]:
    statement = fact.statement
    return {
        "q": fact.question,
        "a": fact.answer,
        "fact": statement,
        "Fact": statement[:1].upper() + statement[1:],
        "wrong": rng.choice(fact.wrong),
    }


def _fill(text: str, values: dict[str, str]) -> str:
    for slot in frames.slots_of(text):
        text = text.replace("{" + slot + "}", values[slot])
    text = _AN.sub(r"\1n \2", text)
    return _SENTENCE_START.sub(lambda found: found[0].upper(), text.strip())


def _other(lang: str) -> str:
    return "en" if lang == "vi" else "vi"
