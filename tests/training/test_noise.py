"""Noise makes a dialogue untidy, never empty, and never another dialogue."""

import random
import unicodedata
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from build.training import noise
from one_pass import Dialogue

TEXT = st.sampled_from(["Đúng rồi!", "!", "…", "?!", "Ừ.", "a b", "Tớ thích cậu.", "2+2=4", ":)", "😊"]) | st.text(max_size=30)
DIALOGUE = Dialogue("Dạ bằng 4 ạ.", "Chính xác! Cậu giỏi quá!", "2 cộng 2 bằng mấy?")


def variants(count: int = 400) -> list[Dialogue]:
    return [noise.disturb(random.Random(seed), DIALOGUE) for seed in range(count)]


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Đúng rồi, cậu giỏi quá!", "Dung roi, cau gioi qua!"),
        ("đường phố ở Hà Nội", "duong pho o Ha Noi"),
        ("Nguyễn Thị Ngọc Ánh", "Nguyen Thi Ngoc Anh"),
        ("ăắằẳẵặ âấầẩẫậ êếềểễệ ôốồổỗộ ơớờởỡợ ưứừửữự ỳýỷỹỵ", "aaaaaa aaaaaa eeeeee oooooo oooooo uuuuuu yyyyy"),
        ("Exactly, 2+2=4!", "Exactly, 2+2=4!"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_diacritics_are_stripped(text: str, bare: str, form: Literal["NFC", "NFD"]) -> None:
    assert noise.strip_diacritics(unicodedata.normalize(form, text)) == bare


def test_a_share_of_the_words_may_keep_theirs() -> None:
    text = "cậu giỏi quá rồi đấy"
    assert noise.strip_diacritics(text, random.Random(0), 0.0) == text
    assert noise.strip_diacritics(text, random.Random(0), 1.0) == "cau gioi qua roi day"
    found = {noise.strip_diacritics(text, random.Random(seed), 0.5) for seed in range(20)}
    assert len(found) > 5
    for mixed in found:
        assert all(word in pair for word, *pair in zip(mixed.split(), text.split(), ["cau", "gioi", "qua", "roi", "day"], strict=True))


@given(child=TEXT, pika=TEXT.filter(str.strip), before=st.none() | TEXT.filter(str.strip), seed=st.integers(0, 10_000))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_pika_says_is_never_blank_and_nothing_is_made_up(child: str, pika: str, before: str | None, seed: int) -> None:
    disturbed = noise.disturb(random.Random(seed), Dialogue(child, pika, before))
    assert disturbed.pika_response.strip()
    assert (disturbed.user_last_message == "") == (child == "")
    assert (disturbed.pika_last_message is None) == (before is None)
    assert before is None or (disturbed.pika_last_message or "").strip()
    assert disturbed == noise.disturb(random.Random(seed), Dialogue(child, pika, before))


def test_many_dialogues_are_changed_and_many_are_not() -> None:
    changed = sum(dialogue != DIALOGUE for dialogue in variants())
    assert 150 < changed < 380


def test_pika_is_left_alone_more_often_than_the_child() -> None:
    made = variants()
    child = sum(dialogue.user_last_message != DIALOGUE.user_last_message for dialogue in made)
    before = sum(dialogue.pika_last_message != DIALOGUE.pika_last_message for dialogue in made)
    assert before < child


def test_changes_are_of_all_kinds() -> None:
    texts = {dialogue.user_last_message for dialogue in variants(2000)}
    assert any(text.isupper() for text in texts)
    assert any(text == text.lower() for text in texts)
    assert "Da bang 4 a." in texts
    assert any(text.startswith(("ừm ", "um ", "Pika ơi ")) for text in texts)
    assert any("😊" in text for text in texts)
    assert any(len(text) < len(DIALOGUE.user_last_message) for text in texts)


def test_pika_asks_no_question_that_it_had_not_asked() -> None:
    assert not any("?" in dialogue.pika_response for dialogue in variants(1000))


def test_other_pronouns_are_used_for_both_of_pikas_lines_at_once() -> None:
    dialogue = Dialogue("x", "Tớ thích cậu, Cậu ạ", "Cậu thích tớ không")
    pairs = {tuple(vars(noise._address(random.Random(seed), dialogue)).values()) for seed in range(100)}
    assert ("x", "Mình thích bạn, Bạn ạ", "Bạn thích mình không") in pairs
    assert ("x", "Cô thích con, Con ạ", "Con thích cô không") in pairs
    assert len(pairs) == len(noise._ADDRESS)
