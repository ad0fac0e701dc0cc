"""Training batches: dialogues with what the model should answer, as token ids.

Three kinds of answer are taught: the code (one token, a distribution over acceptable emotions), and the two JSON forms, which begin with a
stem that the server forces. Nothing else follows the assistant marker, so an unforced first token is always a code.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from build.training.dialogues import Corpus, Labelled
from one_pass import CodeTable, Prompt, TextCodec

JSON_SHARE = 0.2
BEST_EMOTION_SHARE = 0.75
"""Probability taught for the best emotion where others are acceptable too; the others divide the rest."""
SPLITTING_RATE = 0.2
"""Share of BPE merges that `SplittingCodec` leaves out."""
IGNORE = -100


@dataclass
class Batch:
    """B dialogues padded on the right to T tokens; what follows the prefix only."""

    ids: torch.Tensor
    """int64 [B, T]."""
    lengths: torch.Tensor
    """int64 [B], tokens of each row without padding."""
    dialogue_targets: torch.Tensor
    """int64 [B, T]: the next token of the turn, IGNORE elsewhere."""
    json_targets: torch.Tensor
    """int64 [B, T]: the next token of a JSON answer, IGNORE elsewhere."""
    code_positions: torch.Tensor
    """int64 [B]: index of the last token of the turn, or -1 where the answer is JSON."""
    code_targets: torch.Tensor
    """float32 [B, vocab]: what the token after `code_positions` should be."""


class SplittingCodec(TextCodec):
    """Breaks words of the dialogue into random pieces (BPE dropout), so that a model learns from parts of words too."""

    def __init__(self, tokenizer_json: str) -> None:
        """As TextCodec; templates are encoded as ever."""
        super().__init__(tokenizer_json)
        self._plain.model.dropout = SPLITTING_RATE


class Batches:
    """An endless stream of batches; equal seeds give equal streams."""

    def __init__(self, corpus: Corpus, prompt: Prompt, codes: CodeTable, vocab_size: int, batch_size: int) -> None:
        """Everything that does not change from batch to batch."""
        self._corpus, self._prompt, self._codes = corpus, prompt, codes
        self._vocab_size, self._batch_size = vocab_size, batch_size

    def stream(self, seed: int) -> Iterator[Batch]:
        """Batches of the training split, without end."""
        rng = random.Random(seed)
        while True:
            yield self.collate([self._corpus.sample(rng, "train") for _ in range(self._batch_size)], rng)

    def collate(self, examples: list[Labelled], rng: random.Random | None = None) -> Batch:
        """Examples as a batch. Without `rng` every answer is a code."""
        turns = [self._prompt.encode_turn(example.dialogue) for example in examples]
        answers = [self._json_answer(example, rng) if rng and rng.random() < JSON_SHARE else ([], []) for example in examples]
        rows = [turn + stem + rest for turn, (stem, rest) in zip(turns, answers, strict=True)]
        n, longest = len(rows), max(map(len, rows))
        ids = torch.zeros(n, longest, dtype=torch.int64)
        dialogue, json_targets = torch.full_like(ids, IGNORE), torch.full_like(ids, IGNORE)
        code_targets = torch.zeros(n, self._vocab_size)
        code_positions = torch.full((n,), -1)
        for i, (example, turn, row, (stem, _)) in enumerate(zip(examples, turns, rows, answers, strict=True)):
            whole = torch.tensor(row)
            ids[i, : len(row)] = whole
            dialogue[i, : len(turn) - 1] = whole[1 : len(turn)]
            if stem:
                start = len(turn) + len(stem) - 1
                json_targets[i, start : len(row) - 1] = whole[start + 1 :]
            else:
                code_positions[i] = len(turn) - 1
                for emotion, share in shares(example.emotions).items():
                    code_targets[i, self._codes.token_for(self._prompt.task.answer_for(emotion, example.celebrate))] = share
        return Batch(ids, torch.tensor([len(row) for row in rows]), dialogue, json_targets, code_positions, code_targets)

    def _json_answer(self, example: Labelled, rng: random.Random) -> tuple[list[int], list[int]]:
        """(ids of the forced stem, ids of the rest with the end marker) of a JSON answer, in one of the two orders of fields."""
        flag = (self._prompt.task.flag_name, "yes" if example.celebrate else "no")
        pairs = [("emotion_name", example.emotion), flag]
        if rng.random() < 0.4:
            pairs.reverse()
        text = json.dumps(dict(pairs))
        stem = text[: text.index(":") + 3]
        codec = self._prompt.codec
        return codec.encode_template(stem), codec.encode_template(text[len(stem) :] + self._prompt.task.template.example_end)


def shares(emotions: tuple[str, ...]) -> dict[str, float]:
    """The distribution to teach, the best emotion first."""
    if len(emotions) == 1:
        return {emotions[0]: 1.0}
    rest = (1.0 - BEST_EMOTION_SHARE) / (len(emotions) - 1)
    return {emotion: BEST_EMOTION_SHARE if i == 0 else rest for i, emotion in enumerate(emotions)}
