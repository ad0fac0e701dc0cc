"""Text to the arrays that `tensorrt_llm` takes, as NVIDIA's preprocessing model does it, without any Triton in it.

The prompt is encoded as it stands: no chat template is applied, and markers in it become special tokens, because whoever calls this model
writes whole prompts. The tagger, which reads what children say, has its own encoder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Ids = npt.NDArray[np.int32]


class TextInputs:
    """One tokenizer and its end and padding tokens."""

    def __init__(self, folder: Path) -> None:
        """Load `tokenizer.json`, and `tokenizer_config.json` for what ends a text and what pads it.

        As upstream, padding is the end token where the tokenizer has none of its own; -1 stands for an end token that does not exist.
        """
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.end_id = self._id_of(config.get("eos_token"), -1)
        self.pad_id = self._id_of(config.get("pad_token"), max(self.end_id, 0))

    def prompts(self, texts: Sequence[str], pad_ids: Sequence[int]) -> tuple[Ids, Ids]:
        """Prompts as ids.

        Args:
            texts: one for each row.
            pad_ids: what each row is filled up with at its end.

        Returns:
            Ids [rows, longest], and how many of them are text [rows, 1].
        """
        rows = [self._tokenizer.encode(text).ids for text in texts]
        longest = max(map(len, rows))
        ids = [row + [pad] * (longest - len(row)) for row, pad in zip(rows, pad_ids, strict=True)]
        return np.array(ids, dtype=np.int32).reshape(len(rows), longest), np.array([[len(row)] for row in rows], dtype=np.int32)

    def words(self, lists: Sequence[Sequence[str]]) -> Ids:
        """Lists of words, one list for each row, in TensorRT-LLM's layout [rows, 2, n].

        The first line has the ids of all words one after the other, the second where each word ends. The rest is filled with 0 and -1.
        Empty words are left out, and n is 0 if no row has any.
        """
        rows = [[ids for word in words if word and (ids := self._tokenizer.encode(word, add_special_tokens=False).ids)] for words in lists]
        longest = max(sum(map(len, row)) for row in rows)
        out = np.stack([np.zeros((len(rows), longest), np.int32), np.full((len(rows), longest), -1, np.int32)], axis=1)
        for i, row in enumerate(rows):
            ends = np.cumsum([len(ids) for ids in row], dtype=np.int32)
            out[i, 0, : sum(map(len, row))] = [token for ids in row for token in ids]
            out[i, 1, : len(ends)] = ends
        return out

    def bias(self, lists: Sequence[Sequence[str]], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Bias of every token of the vocabulary, FP32 [rows, vocabulary], or [rows, 0] if no row has any words.

        Args:
            lists: words, one list for each row; every token of a word gets the word's weight.
            weights: [rows, words].

        Raises:
            ValueError: there are not as many weights as words.
        """
        n_words = {len(words) for words in lists}
        if weights.shape != (len(lists), *n_words):
            raise ValueError(f"EMBEDDING_BIAS_WORDS has {max(n_words)} words a row and EMBEDDING_BIAS_WEIGHTS the shape {weights.shape}")
        out = np.zeros((len(lists), self._tokenizer.get_vocab_size() if max(n_words) else 0), dtype=np.float32)
        for row, words, values in zip(out, lists, weights, strict=True):
            for word, value in zip(words, values, strict=True):
                np.add.at(row, self._tokenizer.encode(word, add_special_tokens=False).ids, value)
        return out

    def _id_of(self, token: Any, otherwise: int) -> int:
        """Id of a token as tokenizer_config.json names it: a string, or an object with a content."""
        found = self._tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token) if token else None
        return otherwise if found is None else int(found)
