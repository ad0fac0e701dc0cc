"""Trusted text has markers, what people say has none; nothing else is added or lost."""

import json
import re
import unicodedata
from pathlib import Path

import pytest

from one_pass import TaskError, TextCodec
from tests.support import tokenizers_for_tests
from tests.support.tokenizers_for_tests import MARKERS

VIETNAMESE = "Cậu giỏi quá, đúng rồi! Nguyễn Thị Ngọc Ánh"


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_is_one_token_in_a_template_and_only_characters_in_dialogue(codec: TextCodec, marker: str) -> None:
    (marker_id,) = codec.encode_template(marker)
    assert marker_id in codec.marker_ids
    ids = codec.encode_dialogue(marker)
    assert len(ids) > 1
    assert codec.marker_ids.isdisjoint(ids)
    assert codec.decode(ids) == marker


def test_added_tokens_that_are_not_special_are_taken_out_of_dialogue_too(kind: str) -> None:
    spec = json.loads(tokenizers_for_tests.tokenizer_json(kind))
    for token in spec["added_tokens"]:
        token["special"] = False  # as Phi-3 has </s>
    codec = TextCodec(json.dumps(spec))
    for marker in MARKERS:
        assert codec.marker_ids.isdisjoint(codec.encode_dialogue(f"a {marker} b"))


def test_nothing_is_added_at_either_end(codec: TextCodec) -> None:
    assert codec.encode_template("") == codec.encode_dialogue("") == []
    for ids in (codec.encode_template("happy"), codec.encode_dialogue("happy")):
        assert codec.marker_ids.isdisjoint(ids)


def test_white_space_after_a_marker_makes_no_difference(codec: TextCodec) -> None:
    assert codec.encode_template("<|user|>\n") == codec.encode_template("<|user|>")


def test_padding_and_truncation_stored_in_the_file_are_ignored(kind: str) -> None:
    spec = json.loads(tokenizers_for_tests.tokenizer_json(kind))
    spec["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    spec["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<s>",
    }
    plain, odd = tokenizers_for_tests.codec(kind), TextCodec(json.dumps(spec))
    assert odd.encode_dialogue(VIETNAMESE) == plain.encode_dialogue(VIETNAMESE)
    assert odd.encode_template(VIETNAMESE) == plain.encode_template(VIETNAMESE)


def test_combining_accents_and_composed_letters_are_the_same(codec: TextCodec) -> None:
    composed, combining = unicodedata.normalize("NFC", VIETNAMESE), unicodedata.normalize("NFD", VIETNAMESE)
    assert composed != combining
    assert codec.encode_dialogue(combining) == codec.encode_dialogue(composed)
    assert codec.decode(codec.encode_dialogue(combining)) == composed


def test_characters_outside_the_vocabulary_survive(codec: TextCodec) -> None:
    text = "🦖 ぴか \u202eabc\u200d\x00"
    assert codec.decode(codec.encode_dialogue(text)) == text


def test_decode_leaves_markers_out(codec: TextCodec) -> None:
    ids = [*codec.encode_template("<|user|>"), *codec.encode_dialogue("hello"), *codec.encode_template("<|end|>")]
    assert codec.decode(ids) == "hello"


def test_a_token_is_found_by_its_exact_spelling(codec: TextCodec) -> None:
    assert [codec.token_id("<|end|>")] == codec.encode_template("<|end|>")
    assert codec.token_id("no such token") is None


def test_every_id_is_below_the_size_of_the_vocabulary(codec: TextCodec) -> None:
    assert max(codec.marker_ids) < codec.vocab_size
    assert max(codec.encode_dialogue(VIETNAMESE)) < codec.vocab_size


def test_a_file_gives_the_same_as_its_content(tmp_path: Path, kind: str, codec: TextCodec) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizers_for_tests.tokenizer_json(kind), encoding="utf-8")
    loaded = TextCodec.load(path)
    assert loaded.encode_dialogue(VIETNAMESE) == codec.encode_dialogue(VIETNAMESE)
    assert loaded.marker_ids == codec.marker_ids


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=re.escape(f"there is no tokenizer at {tmp_path / 'tokenizer.json'}")):
        TextCodec.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '"text"', '{"version": "1.0", "model": {"type": "Odd"}}'])
def test_what_is_not_a_tokenizer_is_refused(content: str) -> None:
    with pytest.raises(TaskError, match="the tokenizer cannot be read: "):
        TextCodec(content)
