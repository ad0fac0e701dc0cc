"""The fixed dialogues that an engine is judged by, as the prompts of a task.

They are in `verify_data/dialogues.jsonl`, for all 13 emotions, both flags and both languages. A change there makes every stored reference a
reference for other prompts, and so it is made again.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build import ROOT
from build.errors import PromptError
from one_pass import CodeTable, Dialogue, Prompt, Tag, Task, TaskError, TextCodec

DATA = ROOT / "build" / "verify_data"


@dataclass(frozen=True)
class Prompts:
    """What is asked, and how answers are read."""

    prompt: Prompt
    codes: CodeTable
    turns: tuple[list[int], ...]
    """Token ids after the prefix, of each dialogue."""
    tokens_per_block: int

    @property
    def ids(self) -> list[list[int]]:
        """Token ids of the whole prompts."""
        return [self.prompt.prefix_ids + turn for turn in self.turns]

    @property
    def prefix_blocks(self) -> int:
        """KV-cache blocks of the prefix, which it fills."""
        return len(self.prompt.prefix_ids) // self.tokens_per_block

    @property
    def sha256(self) -> str:
        """Hex digest of all token ids and of the tokens whose logits are read."""
        return hashlib.sha256(json.dumps([self.ids, self.codes.token_ids.tolist()]).encode()).hexdigest()

    def read(self, code_logits: npt.NDArray[np.float32]) -> list[Tag]:
        """The tags that logits say, float32 [n_prompts, n_codes] in the order of `codes.token_ids`. Raises AnswerError."""
        vocabulary = np.zeros((len(code_logits), int(self.codes.token_ids.max()) + 1), dtype=np.float32)
        vocabulary[:, self.codes.token_ids] = code_logits
        return [self.codes.read(row) for row in vocabulary]


def load(task_file: Path, tokenizer: Path, tokens_per_block: int) -> Prompts:
    """The prompts for one task, one tokenizer and one size of KV-cache blocks.

    Raises:
        PromptError: they do not fit together.
    """
    try:
        prompt = Prompt(Task.load(task_file), TextCodec.load(tokenizer), tokens_per_block)
        codes = CodeTable(prompt.task, prompt.codec)
    except TaskError as error:
        raise PromptError(f"{task_file} and {tokenizer} do not fit together: {error}") from error
    return Prompts(prompt, codes, tuple(prompt.encode_turn(dialogue) for dialogue in dialogues()), tokens_per_block)


def dialogues() -> list[Dialogue]:
    """The fixed dialogues."""
    return [Dialogue(**json.loads(line)) for line in (DATA / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()]
