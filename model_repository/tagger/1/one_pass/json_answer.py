"""Strategy `json`: the model writes the JSON itself, token by token, as the baseline that the other strategies are compared with.

Only the opening is forced, so that the answer is JSON at all. It is read strictly: whoever measures this strategy must see what it gets
wrong. There are no probabilities in a text: the scores say 1 for the answer and 0 for the rest, and the threshold of the task file has no
part in it.
"""

import json
from itertools import product

import numpy as np

from one_pass.answer import AnswerError, Engine, Tag
from one_pass.prompt import Prompt
from one_pass.task import EMOTION_FIELD, FLAG_WORDS, Task

OPENING = '{"'
SLACK_TOKENS = 8
"""More than the longest answer in its plainest form, for white space or another way of splitting words."""
_INVALID = "the model did not answer with the JSON that was asked for: ask with strategy codes or words, which always have an answer"


class InvalidJsonError(AnswerError):
    """The model wrote something else than the JSON that was asked for."""


class JsonAnswer:
    """The JSON answer of one task for one tokenizer."""

    def __init__(self, prompt: Prompt) -> None:
        """Find out how an answer ends and how long it may be.

        Raises:
            TaskError: this tokenizer joins the end of an answer with `template.example_end`.
        """
        self._task, self._codec = prompt.task, prompt.codec
        self._opening_ids = prompt.answer_ids(OPENING)
        pairs = [((EMOTION_FIELD, label), (prompt.task.flag_name, word)) for label, word in product(prompt.task.label_names, FLAG_WORDS)]
        texts = [json.dumps(dict(order), ensure_ascii=False) for pair in pairs for order in (pair, pair[::-1])]
        self._end_id = prompt.answer_ids(prompt.task.template.example_end, after=texts[0])[0]
        self.max_answer_tokens = max(len(prompt.answer_ids(text)) for text in texts) + 1 + SLACK_TOKENS

    def tag(self, prompt_ids: list[int], engine: Engine) -> Tag:
        """As `answer.Strategy` says."""
        max_new_tokens = self.max_answer_tokens - len(self._opening_ids)
        ids = engine.generate(prompt_ids + self._opening_ids, max_new_tokens, self._end_id)
        label, flag = self._read(ids)
        scores = np.array([name == label for name in self._task.label_names], dtype=np.float32)
        return Tag(label, flag, scores, float(flag))

    def _read(self, ids: list[int]) -> tuple[str, bool]:
        if not self._codec.marker_ids.isdisjoint(ids):  # decoding would pass over them
            raise InvalidJsonError(_INVALID)
        # Decoded as a whole, because a tokenizer may treat the start of a text unlike the rest.
        return read(self._codec.decode(self._opening_ids + ids), self._task)


def read(text: str, task: Task) -> tuple[str, bool]:
    """Label and flag of exactly the two fields, with values that exist.

    Raises:
        InvalidJsonError: it is anything else; the message has nothing of the text.
    """
    fields = {EMOTION_FIELD: task.label_names, task.flag_name: FLAG_WORDS}
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise InvalidJsonError(_INVALID) from None
    if not isinstance(found, dict) or found.keys() != fields.keys() or any(found[name] not in fields[name] for name in fields):
        raise InvalidJsonError(_INVALID)
    return found[EMOTION_FIELD], found[task.flag_name] == FLAG_WORDS[True]


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found
