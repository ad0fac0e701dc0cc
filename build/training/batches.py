"""Training batches: dialogues with what the model should answer, as token ids.

Two kinds of answer are taught: the code (one token, a distribution over acceptable emotions), and JSON, which begins with a stem that the
server forces; what follows the stem is learned. Nothing else follows the assistant marker, so an unforced first token is always a code.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from build.training import noise
from build.training.dialogues import Corpus, Labelled
from one_pass import CodeTable, Prompt, TextCodec
from one_pass.text import WRITTEN

JSON_SHARE = 0.2
BARE_STEM_SHARE = 0.5
"""Share of JSON answers with nothing forced but the opening `{"`: the strategy `json` generates the field names too."""
FLAG_FIRST_SHARE = 0.4
"""Share of JSON answers that begin with the flag, its name forced: the strategy `words` asks in this order."""
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
    turn_lengths: torch.Tensor
    """int64 [B], tokens of each row's turn, which ends with the assistant marker; a JSON answer may follow."""
    dialogue_targets: torch.Tensor
    """int64 [B, T]: the next token of the turn, IGNORE elsewhere."""
    json_targets: torch.Tensor
    """int64 [B, T]: the next token of a JSON answer, IGNORE elsewhere."""
    code_positions: torch.Tensor
    """int64 [B]: index of the last token of the turn, or -1 where the answer is JSON."""
    code_targets: torch.Tensor
    """float32 [B, vocab]: what the token after `code_positions` should be."""


class SplittingCodec(TextCodec):
    """Breaks words of the dialogue into random pieces (BPE dropout), so that a model learns from parts of words too.

    The pieces are drawn by the tokenizers library, from a source of its own that cannot be seeded.
    """

    def __init__(self, tokenizer_json: str, dialogue_form: str = WRITTEN) -> None:
        """As TextCodec; templates are encoded as ever."""
        super().__init__(tokenizer_json, dialogue_form)
        self._plain.model.dropout = SPLITTING_RATE


class Batches:
    """An endless stream of batches; equal seeds give equal dialogues and answers.

    A batch of the stream has every dialogue twice, in its first and in its second half, with noise of its own each time and an answer of
    the same kind: so a model can be taught to answer both alike.
    """

    def __init__(self, corpus: Corpus, prompt: Prompt, codes: CodeTable, vocab_size: int, batch_size: int) -> None:
        """Everything that does not change from batch to batch.

        Raises:
            ValueError: `batch_size` is odd.
        """
        if batch_size % 2:
            raise ValueError(f"a batch has every dialogue twice, so its size must be even, not {batch_size}")
        self._corpus, self._prompt, self._codes = corpus, prompt, codes
        self._vocab_size, self._batch_size = vocab_size, batch_size

    def stream(self, seed: int) -> Iterator[Batch]:
        """Batches of the training split, without end."""
        rng = random.Random(seed)
        while True:
            once = [self._corpus.sample(rng, "train", noisy=False) for _ in range(self._batch_size // 2)]
            twins = [replace(example, dialogue=noise.disturb(rng, example.dialogue)) for example in once * 2]
            in_json = [i > 0 and rng.random() < JSON_SHARE for i in range(len(once))] * 2  # at least one is answered with a code
            answers = [self._json_answer(example, rng) if wanted else ([], []) for example, wanted in zip(twins, in_json, strict=True)]
            yield self._collate(twins, answers)

    def collate(self, examples: list[Labelled]) -> Batch:
        """Examples as a batch, to be answered with codes."""
        return self._collate(examples, [([], [])] * len(examples))

    def _collate(self, examples: list[Labelled], answers: list[tuple[list[int], list[int]]]) -> Batch:
        turns = [self._prompt.encode_turn(example.dialogue) for example in examples]
        rows = [turn + stem + rest for turn, (stem, rest) in zip(turns, answers, strict=True)]
        n, longest = len(rows), max(map(len, rows))
        lengths, turn_lengths = (torch.tensor([len(each) for each in both]) for both in (rows, turns))
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
        return Batch(ids, lengths, turn_lengths, dialogue, json_targets, code_positions, code_targets)

    def _json_answer(self, example: Labelled, rng: random.Random) -> tuple[list[int], list[int]]:
        """(ids of the forced stem, ids of the rest with the end marker) of a JSON answer.

        After the bare stem the emotion always comes first, as in the JSON that the users' present system asks for: with both orders taught,
        the first field name would be a guess. After a stem that names the first field either order may come.
        """
        task = self._prompt.task
        pairs = [("emotion_name", example.emotion), (task.flag_name, "yes" if example.celebrate else "no")]
        form = rng.random()
        if form >= 1.0 - FLAG_FIRST_SHARE:
            pairs.reverse()
        text = json.dumps(dict(pairs), ensure_ascii=False)
        stem = text[:2] if form < BARE_STEM_SHARE else text[: text.index('": "') + 4]
        return self._prompt.answer_ids(stem), self._prompt.answer_ids(text[len(stem) :] + task.template.example_end, after=stem)


def shares(emotions: tuple[str, ...]) -> dict[str, float]:
    """The distribution to teach, the best emotion first."""
    if len(emotions) == 1:
        return {emotions[0]: 1.0}
    rest = (1.0 - BEST_EMOTION_SHARE) / (len(emotions) - 1)
    return {emotion: BEST_EMOTION_SHARE if i == 0 else rest for i, emotion in enumerate(emotions)}
