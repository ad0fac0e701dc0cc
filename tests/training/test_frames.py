"""The corpus files parse, are big enough, and are split so that nothing held out is ever trained on."""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from build import ROOT
from build.training import frames
from build.training.frames import Fact, Frame
from tests.support import corpora, tokenizers_for_tests

EMOTIONS = tokenizers_for_tests.pika_mood().label_names
MIN_FRAMES, MIN_FACTS = 120, 500


@pytest.fixture(scope="module")
def pika() -> list[Frame]:
    return list(frames.pika_frames(EMOTIONS))


@pytest.fixture(scope="module")
def others() -> list[Frame]:
    return [*frames.other_frames("child"), *frames.other_frames("before")]


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return list(frames.facts())


def normalised(text: str) -> str:
    """Without case, punctuation and white space; slots stay."""
    return " ".join(re.findall(r"\w+|\{\w+\}", unicodedata.normalize("NFC", text).lower()))


@pytest.mark.parametrize("lang", frames.LANGUAGES)
def test_every_emotion_has_enough_lines(pika: list[Frame], lang: str) -> None:
    counts = Counter(frame.emotion for frame in pika if frame.lang == lang)
    assert counts.keys() == set(EMOTIONS)
    assert min(counts.values()) >= MIN_FRAMES


@pytest.mark.parametrize("lang", frames.LANGUAGES)
@pytest.mark.parametrize("split", frames.SPLITS)
def test_every_emotion_has_lines_in_every_split(pika: list[Frame], lang: str, split: str) -> None:
    assert {frame.emotion for frame in pika if (frame.lang, frame.split) == (lang, split)} == set(EMOTIONS)


def test_every_kind_of_utterance_occurs_and_is_answered(pika: list[Frame], others: list[Frame]) -> None:
    for lang in frames.LANGUAGES:
        assert {kind for frame in others if (frame.lang, frame.split) == (lang, "train") for kind in frame.kinds} == frames.KINDS
        assert {kind for frame in pika if (frame.lang, frame.split) == (lang, "train") for kind in frame.kinds} == frames.PIKA_KINDS


def test_the_split_follows_from_the_text_alone_and_never_moves(pika: list[Frame], others: list[Frame]) -> None:
    known = {"Hmm, let me see.": "train", "Oh no!": "test", "animals-001": "train", "animals-002": "test", "Đúng rồi!": "train"}
    assert {text: frames.split_of(text) for text in known} == known
    assert all(frame.split == frames.split_of(frame.text) for frame in [*pika, *others])


def test_no_emotion_is_its_own_alternative(pika: list[Frame]) -> None:
    assert [frame for frame in pika if len({frame.emotion, *frame.also}) != 1 + len(frame.also)] == []


def test_most_lines_are_for_training(pika: list[Frame]) -> None:
    counts = Counter(frame.split for frame in pika)
    assert 0.80 < counts["train"] / len(pika) < 0.90
    assert 0.03 < counts["validation"] / len(pika) < 0.08
    assert 0.07 < counts["test"] / len(pika) < 0.13


def test_splits_share_no_line_of_pikas_even_if_punctuation_is_ignored(pika: list[Frame]) -> None:
    splits: dict[str, set[str]] = {}
    for frame in pika:
        splits.setdefault(normalised(frame.text), set()).add(frame.split)
    assert [text for text, found in splits.items() if len(found) > 1] == []


def test_there_are_enough_facts_each_with_a_name_of_its_own(facts: list[Fact]) -> None:
    rows = [json.loads(line) for line in (frames.FOLDER / "facts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= MIN_FACTS
    assert len({row["id"] for row in rows}) == len(rows)
    assert len(facts) == sum(lang in row for row in rows for lang in frames.LANGUAGES)
    assert {(fact.lang, fact.split) for fact in facts} == {(lang, split) for lang in frames.LANGUAGES for split in frames.SPLITS}


def test_facts_can_be_put_into_sentences(facts: list[Fact]) -> None:
    for fact in facts:
        assert fact.question
        assert fact.question[-1] not in "?.!"
        assert fact.statement[-1] not in ".!"
        assert fact.wrong
        assert fact.answer not in fact.wrong
        assert fact.statement not in fact.wrong


@pytest.mark.parametrize("lang", frames.LANGUAGES)
def test_every_slot_has_words(lang: str) -> None:
    words = frames.slot_words()
    assert {slot for slot, word_lang in words if word_lang == lang} == frames.WORD_SLOTS
    for (slot, _), listing in words.items():
        assert len(listing) >= 15
        assert len(set(listing)) == len(listing), slot


def test_the_evaluation_file_shares_no_line_with_the_frames(pika: list[Frame], others: list[Frame]) -> None:
    rows = [json.loads(line) for line in (ROOT / "tests" / "data" / "eval_dialogues.jsonl").read_text(encoding="utf-8").splitlines()]
    of_anybody = {normalised(frame.text) for frame in [*pika, *others]}
    assert len(rows) >= 300
    of_pika = of_anybody | {normalised(row["pika_response"]) for row in frames.written_rows()}
    assert {normalised(row["pika_response"]) for row in rows} & of_pika == set()
    said = {normalised(row[name]) for row in rows for name in ("user_last_message", "pika_last_message") if row.get(name)}
    assert said & of_anybody == set()


def test_whole_dialogues_are_labelled_as_labels_are() -> None:
    labels, fields = (
        set(tokenizers_for_tests.pika_mood().label_names),
        {"user_last_message", "pika_response", "emotion", "celebrate", "lang"},
    )
    rows = list(frames.written_rows())
    assert len(rows) > 5000
    for row in rows:
        assert fields <= row.keys() <= fields | {"pika_last_message"}, row
        assert row["pika_response"].strip(), row
        assert set(row["emotion"]) <= labels, row
        assert len(set(row["emotion"])) == len(row["emotion"]) > 0, row
        assert row["celebrate"] in ("yes", "no"), row
        assert row["lang"] in (*frames.LANGUAGES, "mixed"), row


def test_comments_and_blank_lines_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# a comment\n\n  \nasks,tells | sad , happy | Well, well.\nopinion |  | Nice {thing}!\n"
    monkeypatch.setattr(frames, "FOLDER", corpora.write(tmp_path, corpora.files(pika_happy_en=text)))
    first, second = (frame for frame in frames.pika_frames(corpora.EMOTIONS) if (frame.emotion, frame.lang) == ("happy", "en"))
    assert (first.text, first.kinds, first.also) == ("Well, well.", ("asks", "tells"), ("sad", "happy"))
    assert (second.text, second.kinds, second.also) == ("Nice {thing}!", ("opinion",), ())
    assert second.slots == {"thing"}


def test_a_wrong_answer_makes_a_wrong_statement_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FOLDER", corpora.write(tmp_path, corpora.files()))
    vi, en = frames.facts()
    assert (vi.answer, vi.wrong) == ("xanh", ("đỏ", "tím", "trời màu đỏ", "trời màu tím"))
    assert (en.statement, en.wrong) == ("the sky is blue", ("red", "the sky is red"))
    assert vi.split == en.split == frames.split_of(corpora.FACT_ID)
