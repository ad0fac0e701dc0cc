"""What a column of the page shows: a tag, and the very tokens that it was asked with.

The first column is what robots get: the tagger of the running server. The server does not tell what it asked; that is made again by the
tagger's own code from the model repository, the engine is asked with it as well, and if the two answers differ the column says so.
A prompt file is tried on the same engine by the same code, with nothing assembled or restarted: its ids go straight to `tensorrt_llm`.

A prompt's prefix is put into the KV cache before the time is taken, which is where a tag finds it when only one prompt is used.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from build.verify_engine import Engine
from one_pass import FLAG_WORDS, Dialogue, Prompt, Task, TextCodec, make_strategies
from pika_tagger import Tag, TaggerClient

_SAME = 0.02
"""Two probabilities of one prompt on one engine differ by less; batches of another size may round otherwise on a GPU."""
_OTHER_PROMPT = (
    "the engine answers otherwise to the prompt below, so the server has another one: it was started from another model repository, or "
    "before this one was assembled anew; start it again"
)


@dataclass(frozen=True)
class Token:
    """One token of a prompt, as the vocabulary spells it."""

    id: int
    spelling: str | None
    is_marker: bool


@dataclass(frozen=True)
class Column:
    """What one prompt makes of a dialogue.

    Attributes:
        emotion_name: The answer; likewise `celebrate`, "yes" or "no".
        emotion_scores: Probability by label, in the order of the task.
        celebrate_score: Probability of "yes".
        threshold: From which `celebrate_score` on the answer is "yes".
        latency_ms: Of the served prompt the whole call, seen by the client; of a prompt file the engine's part.
        prefix: The part of the prompt that never changes.
        prefix_blocks: KV-cache blocks that it fills.
        turn: The rest, with the dialogue in it.
        text: All of it, as the tokenizer decodes it.
        remark: What to know before believing the rest; empty if there is nothing.
    """

    emotion_name: str
    celebrate: str
    emotion_scores: Mapping[str, float]
    celebrate_score: float
    threshold: float
    latency_ms: float
    prefix: tuple[Token, ...]
    prefix_blocks: int
    turn: tuple[Token, ...]
    text: str
    remark: str


class Columns:
    """Asks one server, not for several threads at once: they would be in each other's times."""

    def __init__(self, tagger: TaggerClient, engine: Engine, repository: Path, tokens_per_block: int) -> None:
        """Take two connections to a server, and the model repository that it was started from.

        Args:
            tagger: to its `tagger`.
            engine: to its `tensorrt_llm`.
            repository: as `doit model_repository` assembled it: for the served prompt and the tokenizer.
            tokens_per_block: of the engine.

        Raises:
            TaskError: the served prompt cannot be made.
        """
        self._tagger, self._engine, self._tokens_per_block = tagger, engine, tokens_per_block
        folder = repository / "tagger" / "1"
        self._codec = TextCodec.load(folder / "tokenizer.json")
        self._served = self._prompt(folder / "task.toml")

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions of the served prompt, in its order."""
        return self._served.task.label_names

    def served(self, dialogue: Dialogue, strategy: str) -> Column:
        """What a robot is answered.

        Args:
            dialogue: what was said.
            strategy: one of `one_pass.STRATEGIES`.

        Raises:
            InvalidDialogueError: the dialogue cannot be tagged.
            AnswerError: the engine's answer cannot be read.
            ServerError: the engine cannot be asked.
            TaggerError: the tagger cannot be asked.
        """
        turn_ids = self._served.encode_turn(dialogue)
        expected = self._ask_engine(self._served, turn_ids, strategy)
        self._tagger.health()
        tag = self._tagger.tag(**vars(dialogue), strategy=strategy)
        return _column(self._served, turn_ids, self._tokens_per_block, tag, "" if _alike(tag, expected) else _OTHER_PROMPT)

    def tried(self, task_file: Path, dialogue: Dialogue, strategy: str) -> Column:
        """What the same engine answers to another prompt, read anew from its file.

        Raises as `served`, and:
            TaskError: the file is wrong in itself, or does not fit the tokenizer.
        """
        prompt = self._prompt(task_file)
        turn_ids = prompt.encode_turn(dialogue)
        return _column(prompt, turn_ids, self._tokens_per_block, self._ask_engine(prompt, turn_ids, strategy), "")

    def _prompt(self, task_file: Path) -> Prompt:
        return Prompt(Task.load(task_file), self._codec, self._tokens_per_block)

    def _ask_engine(self, prompt: Prompt, turn_ids: list[int], strategy: str) -> Tag:
        way = make_strategies(prompt)[strategy]
        self._engine.next_logits(prompt.prefix_ids)
        started_s = time.perf_counter()
        answer = way.tag(prompt.prefix_ids + turn_ids, self._engine)
        latency_ms = (time.perf_counter() - started_s) * 1000
        scores = dict(zip(prompt.task.label_names, answer.emotion_scores.tolist(), strict=True))
        return Tag(answer.emotion_name, answer.flag, scores, answer.flag_score, latency_ms)


def _alike(one: Tag, other: Tag) -> bool:
    if one.celebrate != other.celebrate or one.emotion_scores.keys() != other.emotion_scores.keys():
        return False
    differences = [abs(score - other.emotion_scores[label]) for label, score in one.emotion_scores.items()]
    return max(*differences, abs(one.celebrate_score - other.celebrate_score)) < _SAME


def _column(prompt: Prompt, turn_ids: list[int], tokens_per_block: int, tag: Tag, remark: str) -> Column:
    return Column(
        emotion_name=tag.emotion_name,
        celebrate=FLAG_WORDS[tag.celebrate],
        emotion_scores=dict(tag.emotion_scores),
        celebrate_score=tag.celebrate_score,
        threshold=prompt.task.flag_threshold,
        latency_ms=tag.latency_ms,
        prefix=_tokens(prompt.codec, prompt.prefix_ids),
        prefix_blocks=len(prompt.prefix_ids) // tokens_per_block,
        turn=_tokens(prompt.codec, turn_ids),
        text=prompt.codec.decode(prompt.prefix_ids + turn_ids, with_markers=True),
        remark=remark,
    )


def _tokens(codec: TextCodec, ids: list[int]) -> tuple[Token, ...]:
    return tuple(Token(each, codec.spelling(each), each in codec.marker_ids) for each in ids)
