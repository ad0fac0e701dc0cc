"""The spoken form keeps what is heard, and forgets what is only seen."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_pass import TaskError, TextCodec
from one_pass.spoken import spoken_form
from one_pass.text import SPOKEN, WRITTEN
from tests.support import tokenizers_for_tests


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Đúng rồi! Cậu giỏi quá!", "dung roi . cau gioi qua"),
        ("ĐÚNG RỒI... cậu giỏi quá", "dung roi . cau gioi qua"),
        ("That's right, well-done :)", "thats right well done"),
        ("Thật á?! Kể tớ nghe đi", "that a ? ke to nghe di"),
        ("Hmmm, để tớ xem nàooo", "hm de to xem nao"),
        ("  ... *** 😊 dạ 🌟", "da"),
        ("2 + 2 = 4.", "2+2=4"),
        ("10 × 2 ÷ 4", "10 x 2/4"),
        ("Bây giờ là 7:30, cao 1,5 m", "bay gio la 7:30 cao 1,5 m"),
        ("Bài 1. 2 bạn", "bai 1 . 2 ban"),
        ("1000 và 111", "1000 va 111"),
        ("Ⅻ ① ½", "xii 1 1 2"),
        ("đú\u200bng\u00adrồi", "dungroi"),
        ("😂😂", ""),
        ("", ""),
    ],
)
def test_what_is_kept(text: str, spoken: str) -> None:
    assert spoken_form(text) == spoken


@given(st.text(max_size=60))
def test_it_is_stable_and_has_no_line_breaks(text: str) -> None:
    spoken = spoken_form(text)
    assert spoken_form(spoken) == spoken
    assert not set(spoken) & set("\n\r\t<|>") - set("<>")


@given(st.text(alphabet="aăâđêôơưáàảãạ bcBCĐ.,!?", max_size=40))
def test_case_and_the_way_accents_are_encoded_do_not_matter(text: str) -> None:
    expected = spoken_form(text)
    assert spoken_form(text.upper()) == expected
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert spoken_form(unicodedata.normalize(form, text)) == expected


def test_a_checkpoint_says_which_form_it_wants(tmp_path: Path, kind: str) -> None:
    path, settings = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    path.write_text(tokenizers_for_tests.tokenizer_json(kind), encoding="utf-8")
    assert TextCodec.load(path).dialogue_form == WRITTEN
    settings.write_text('{"model_max_length": 1024}')
    written = TextCodec.load(path)
    settings.write_text('{"dialogue_form": "spoken"}')
    spoken = TextCodec.load(path)
    assert (written.dialogue_form, spoken.dialogue_form) == (WRITTEN, SPOKEN)
    assert spoken.encode_dialogue("ĐÚNG RỒI!!") == spoken.encode_dialogue("dung roi")
    assert written.encode_dialogue("ĐÚNG RỒI!!") != written.encode_dialogue("dung roi")
    assert spoken.encode_template("Đúng!") == written.encode_template("Đúng!")
    for damaged in ('{"dialogue_form": "sung"}', "[]", "{"):
        settings.write_text(damaged)
        with pytest.raises(TaskError, match=r"tokenizer_config\.json"):
            TextCodec.load(path)
