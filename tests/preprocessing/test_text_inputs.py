"""Rows of text become arrays in the layout of TensorRT-LLM, whatever the tokenizer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.support import tokenizers_for_tests
from text_inputs import TextInputs


@pytest.fixture(params=tokenizers_for_tests.KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(tokenizers_for_tests.tokenizer_json(request.param), encoding="utf-8")
    return configured(tmp_path)


def configured(folder: Path, **config: Any) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def ids_of(folder: Path, text: str, with_special_tokens: bool = False) -> list[int]:
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=with_special_tokens).ids
    return ids


def test_shorter_rows_are_filled_up_at_their_end_each_with_its_own_padding(folder: Path) -> None:
    texts = ["Chào cậu! Hello, my friend.", "ạ", ""]
    ids, lengths = TextInputs(folder).prompts(texts, [7, 8, 9])
    rows = [ids_of(folder, text, with_special_tokens=True) for text in texts]  # a prompt begins as the tokenizer wants it, a word does not
    longest = max(map(len, rows))
    assert ids.tolist() == [row + [pad] * (longest - len(row)) for row, pad in zip(rows, (7, 8, 9), strict=True)]
    assert lengths.tolist() == [[len(row)] for row in rows]
    assert ids.dtype == lengths.dtype == np.int32


def test_words_lie_one_after_the_other_with_their_ends_below(folder: Path) -> None:
    found = TextInputs(folder).words([["voi", "", "elephant"], [], ["ạ"]])
    first, second, third = (ids_of(folder, word) for word in ("voi", "elephant", "ạ"))
    n = len(first) + len(second)
    assert found.shape == (3, 2, n)
    assert found[0].tolist() == [first + second, [len(first), n, *[-1] * (n - 2)]]
    assert found[1].tolist() == [[0] * n, [-1] * n]
    assert found[2, 0].tolist() == third + [0] * (n - len(third))
    assert found[2, 1].tolist() == [len(third), *[-1] * (n - 1)]
    assert found.dtype == np.int32


def test_no_words_are_nothing(folder: Path) -> None:
    assert TextInputs(folder).words([[], [""]]).shape == (2, 2, 0)
    assert TextInputs(folder).bias([[], []], np.zeros((2, 0), np.float32)).shape == (2, 0)


def test_every_token_of_a_word_gets_its_weight_and_weights_add_up(folder: Path) -> None:
    found = TextInputs(folder).bias([["voi", "voi"], ["ạ", "ạ"]], np.array([[1, 2], [-3, 0]], np.float32))
    for row, word, weight in zip(found, ("voi", "ạ"), (3, -3), strict=True):
        expected = np.zeros(found.shape[1], np.float32)
        np.add.at(expected, ids_of(folder, word), weight)
        np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("weights", [np.zeros((1, 1), np.float32), np.zeros((2, 2), np.float32)])
def test_weights_that_do_not_fit_are_refused(folder: Path, weights: "np.ndarray[Any, np.dtype[np.float32]]") -> None:
    with pytest.raises(ValueError, match=r"^EMBEDDING_BIAS_WORDS has 2 words a row and EMBEDDING_BIAS_WEIGHTS the shape"):
        TextInputs(folder).bias([["a", "b"]], weights)


def test_end_and_padding_are_the_tokenizers_own(folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    one, other = spec["added_tokens"][:2]
    found = TextInputs(configured(folder, eos_token=one["content"], pad_token={"content": other["content"]}))
    assert (found.end_id, found.pad_id) == (one["id"], other["id"])
    found = TextInputs(configured(folder, eos_token=other["content"]))
    assert found.pad_id == found.end_id == other["id"]
    found = TextInputs(configured(folder, eos_token="<no such token>"))
    assert (found.end_id, found.pad_id) == (-1, 0)
