"""Dialogues made from frames: the label follows from the kind, slots agree, and no split sees another's frames."""

import dataclasses
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.training import arithmetic, dialogues, frames
from build.training.dialogues import Corpus, Labelled
from build.training.frames import Fact, Frame, Split
from tests.support import corpora, tokenizers_for_tests

TASK = tokenizers_for_tests.pika_mood()
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(TASK.label_names)


@pytest.fixture(scope="module")
def sampled(corpus: Corpus) -> list[Labelled]:
    rng = random.Random(5)
    return [corpus.sample(rng, "train", noisy=noisy) for noisy in itertools.islice(itertools.cycle((False, True)), 6000)]


def test_celebrate_is_yes_if_and_only_if_a_right_answer_is_confirmed(sampled: list[Labelled]) -> None:
    assert all(example.celebrate == (example.kind == "confirm") for example in sampled if example.kind != "written")
    assert 0.1 < sum(example.celebrate for example in sampled) / len(sampled) < 0.5


def test_every_kind_every_emotion_and_both_languages_occur(sampled: list[Labelled]) -> None:
    assert {example.kind for example in sampled} == frames.PIKA_KINDS | {"written"}
    assert {example.lang for example in sampled} == {*frames.LANGUAGES, "mixed"}
    counts = Counter(example.emotion for example in sampled)
    assert counts.keys() == set(TASK.label_names)
    assert min(counts.values()) > len(sampled) / len(counts) / 2


def test_answers_can_be_given_in_codes(sampled: list[Labelled]) -> None:
    for example in sampled:
        assert example.emotions[0] == example.emotion
        assert TASK.answer_for(example.emotion, example.celebrate) in TASK.answers
        assert set(example.emotions) <= set(TASK.label_names)


def test_every_slot_is_filled(sampled: list[Labelled]) -> None:
    for example in sampled:
        texts = [text for text in vars(example.dialogue).values() if text is not None]
        assert not any("{" in text or "}" in text for text in texts)


def test_pika_always_says_something_and_a_child_who_answers_does_too(sampled: list[Labelled]) -> None:
    assert all(example.dialogue.pika_response.strip() for example in sampled)
    silent = [example for example in sampled if not example.dialogue.user_last_message]
    assert silent
    assert not {example.kind for example in silent} & {"confirm", "pass", "wrong"}


def test_whole_dialogues_are_as_written_unless_disturbed(corpus: Corpus) -> None:
    found = [example for seed in range(400) if (example := corpus.sample(random.Random(seed), "train", noisy=False)).kind == "written"]
    assert 400 * dialogues.WRITTEN_SHARE / 2 < len(found) < 400 * dialogues.WRITTEN_SHARE * 2
    lines = {(row["user_last_message"], row["pika_response"], row.get("pika_last_message")): row for row in frames.written_rows()}
    for example in found:
        row = lines[tuple(vars(example.dialogue).values())]
        assert example.emotions == tuple(row["emotion"])
        assert example.celebrate == (row["celebrate"] == "yes")


def test_whole_dialogues_are_in_one_split_each(corpus: Corpus) -> None:
    seen = {
        split: {example.dialogue.pika_response for example in draws if example.kind == "written"}
        for split in SPLITS
        for draws in [[corpus.sample(random.Random(seed), split, noisy=False) for seed in range(600)]]
    }
    assert all(seen.values())
    for one, other in itertools.combinations(SPLITS, 2):
        assert seen[one].isdisjoint(seen[other])


def test_what_pika_had_said_before_is_sometimes_known(sampled: list[Labelled]) -> None:
    known = [example.dialogue.pika_last_message for example in sampled if example.dialogue.pika_last_message is not None]
    assert 0.1 < len(known) / len(sampled) < 0.6
    assert all(known)


def test_equal_seeds_give_equal_dialogues(corpus: Corpus) -> None:
    def some(seed: int) -> list[Labelled]:
        rng = random.Random(seed)
        return [corpus.sample(rng, "train") for _ in range(20)]

    assert some(1) == some(1)
    assert some(1) != some(2)


def test_noise_never_changes_the_label(corpus: Corpus) -> None:
    changed = 0
    for seed in range(300):
        plain, noisy = (corpus.sample(random.Random(seed), "train", noisy=noisy) for noisy in (False, True))
        assert dataclasses.replace(noisy, dialogue=plain.dialogue) == plain
        changed += noisy.dialogue != plain.dialogue
    assert 100 < changed < 290


def test_counts_are_those_of_the_files(corpus: Corpus) -> None:
    read = Counter((frame.split, frame.emotion) for frame in frames.pika_frames(TASK.label_names))
    for split in SPLITS:
        assert corpus.count(split) == {emotion: read[split, emotion] for emotion in TASK.label_names}


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A corpus in which every frame and fact says of which split and kinds it is, as in `text <train tells>`."""
    pika, others, facts, sums = frames.pika_frames, frames.other_frames, frames.facts, arithmetic.fact

    def mark(text: str, split: str, *kinds: str) -> str:
        return f"{text} <{' '.join((split, *kinds))}>"

    def tag(given: Iterator[Frame], who: str) -> Iterator[Frame]:
        for frame in given:
            yield dataclasses.replace(frame, text=mark(frame.text, frame.split, who, *frame.kinds))

    def tag_fact(fact: Fact) -> Fact:
        question, answer, statement, *wrong = (
            mark(text, fact.split, "fact") for text in (fact.question, fact.answer, fact.statement, *fact.wrong)
        )
        return Fact(question, answer, statement, tuple(wrong), fact.lang, fact.split)

    monkeypatch.setattr(frames, "pika_frames", lambda emotions: tag(pika(emotions), "pika"))
    monkeypatch.setattr(frames, "other_frames", lambda name: tag(others(name), name))
    monkeypatch.setattr(frames, "written_rows", lambda: iter(()))
    monkeypatch.setattr(frames, "facts", lambda: map(tag_fact, facts()))
    monkeypatch.setattr(arithmetic, "fact", lambda rng, lang, split: tag_fact(sums(rng, lang, split)))
    return Corpus(TASK.label_names)


@pytest.mark.parametrize("split", SPLITS)
def test_a_dialogue_is_made_of_frames_and_facts_of_its_split_only(tagged: Corpus, split: Split) -> None:
    rng = random.Random(11)
    seen: Counter[str] = Counter()
    for _ in range(1500):
        example = tagged.sample(rng, split, noisy=False)
        said = {"confirm": "right", "pass": "right"}.get(example.kind, example.kind)
        for field, who in (("pika_response", "pika"), ("user_last_message", "child"), ("pika_last_message", "before")):
            for found, source, *kinds in map(str.split, re.findall(r"<([^>]*)>", getattr(example.dialogue, field) or "")):
                assert found.lower() == split
                assert source in (who, "fact") or (field, source) == ("pika_response", "child")  # Pika may repeat the child's words
                assert source == "fact" or (example.kind if source == "pika" else said) in kinds
                seen[source] += 1
    assert seen.keys() == {"pika", "child", "before", "fact"}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("lang", frames.LANGUAGES)
def test_sums_belong_to_one_split_and_are_right(lang: str, split: Split) -> None:
    rng = random.Random(3)
    made = [arithmetic.fact(rng, lang, split) for _ in range(300)]
    checked = 0
    for fact in made:
        assert (fact.lang, fact.split) == (lang, split)
        assert fact.answer not in fact.wrong
        if (term := re.search(r"(\d+) ?([+x-]) ?(\d+)", fact.statement)) and fact.answer.isdigit():
            a, sign, b = int(term[1]), term[2], int(term[3])
            assert int(fact.answer) == {"+": a + b, "-": a - b, "x": a * b}[sign]
            assert frames.split_of(f"{a}{sign}{b}") == split
            checked += 1
    assert checked > 20


def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> list[Labelled]:
    """Dialogues of a corpus that has almost nothing in it, in English."""
    monkeypatch.setattr(frames, "FOLDER", corpora.write(tmp_path, corpora.files(**changes)))
    monkeypatch.setattr(frames, "split_of", lambda text: "train")
    monkeypatch.setattr(dialogues, "ARITHMETIC_SHARE", 0.0)
    monkeypatch.setattr(dialogues, "OTHER_LANGUAGE_SHARE", 0.0)
    corpus, rng = Corpus(corpora.EMOTIONS), random.Random(2)
    made = (corpus.sample(rng, "train", noisy=False) for _ in range(400))
    return [example for example in made if (example.lang, example.emotion) == ("en", "happy") and example.dialogue.user_last_message]


def test_a_slot_has_one_value_throughout_a_dialogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"child_en": "tells | my {thing} and {animal}\n", "pika_happy_en": "tells |  | Your {animal}, your {thing}!\n"}
    values = set()
    for example in small(tmp_path, monkeypatch, **texts, before_en="tells | Which {thing}?\n"):
        said = re.fullmatch(r"My (thing \w+) and (animal \w+)", example.dialogue.user_last_message)
        assert said
        assert f"Your {said[2]}, your {said[1]}!" in example.dialogue.pika_response
        assert example.dialogue.pika_last_message in (None, f"Which {said[1]}?")
        values.add(said.groups())
    assert len(values) == 4


def test_sentences_begin_with_a_capital_and_take_the_right_article(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = "".join(f"{slot} | {'otter' if slot == 'animal' else slot}\n" for slot in sorted(frames.WORD_SLOTS))
    texts = {"child_en": "tells | {animal}? a {animal}!\n", "slots_en": slots}
    assert {example.dialogue.user_last_message for example in small(tmp_path, monkeypatch, **texts)} == {"Otter? An otter!"}


def test_a_right_answer_is_confirmed_with_the_fact_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"child_en": "right | It is {a}\n", "pika_happy_en": "confirm |  | Yes, {fact}!\n", "before_en": "right | {q}?\n"}
    made = small(tmp_path, monkeypatch, **texts, child_vi="tells | x\nright | {a}\n")
    assert made
    for example in made:
        assert example.dialogue.user_last_message in ("It is blue", "Blue")
        assert example.dialogue.pika_response.startswith("Yes, the sky is blue!")
        assert example.dialogue.pika_last_message in (None, "What color is the sky?")
        assert (example.celebrate, example.kind) == (True, "confirm")
