"""Strategy `words`: both answers in the model's own words, each read where a JSON answer would have it.

The JSON is forced up to a value, the words that may stand there are weighed by the logits of their tokens, and nothing is generated: first
the flag, then, with the flag written down, the emotion. A model that was never taught the codes can answer so. As a rule a word is told by
its first token, and there are two passes. Where the tokenizer lets several words begin alike (`thinking` and `thats_right` with `th`), a
further pass goes one token deeper, but only if those words together are more probable than any other.
"""

import json
from collections.abc import Sequence
from itertools import combinations, takewhile

import numpy as np
import numpy.typing as npt

from one_pass.answer import Engine, Tag, probabilities
from one_pass.prompt import Prompt
from one_pass.task import EMOTION_FIELD, FLAG_WORDS, TaskError


class Words:
    """Both answers of one task for one tokenizer."""

    def __init__(self, prompt: Prompt) -> None:
        """Spell all words in their places.

        Raises:
            TaskError: this tokenizer cannot tell two labels apart, or joins a word with what is before it.
        """
        self._task = prompt.task
        opening, between = f'{{{json.dumps(prompt.task.flag_name, ensure_ascii=False)}: "', f'", "{EMOTION_FIELD}": "'
        self._flag = _Choice(prompt, opening, FLAG_WORDS, ending=between)
        self._emotion = [_Choice(prompt, opening + word + between, prompt.task.label_names, ending='"}') for word in FLAG_WORDS]

    @property
    def max_answer_tokens(self) -> int:
        """As `answer.Strategy` says."""
        return max(choice.max_tokens for choice in (self._flag, *self._emotion))

    def tag(self, prompt_ids: list[int], engine: Engine) -> Tag:
        """As `answer.Strategy` says; the emotion is asked for with the flag already decided."""
        flag_score = float(self._flag.shares(prompt_ids, engine)[1])
        flag = flag_score >= self._task.flag_threshold
        scores = self._emotion[flag].shares(prompt_ids, engine)
        return Tag(self._task.label_names[int(scores.argmax())], flag, scores.astype(np.float32), flag_score)


class _Choice:
    """One word out of several, in one place of the answer."""

    def __init__(self, prompt: Prompt, stem: str, words: Sequence[str], ending: str) -> None:
        self._stem_ids = prompt.answer_ids(stem)
        # With what follows, because a tokenizer may join that to the word, and because no word then begins with the whole of another.
        self._spelled = [prompt.answer_ids(json.dumps(word, ensure_ascii=False)[1:-1] + ending, after=stem) for word in words]
        for (one, a), (other, b) in combinations(zip(words, self._spelled, strict=True), 2):
            if a[: len(b)] == b[: len(a)]:
                raise TaskError(
                    f"this tokenizer spells {one!r} and {other!r} alike after {stem!r}, so the strategy words cannot tell them apart: "
                    "rename one of the labels"
                )
        self.max_tokens = len(self._stem_ids) + max(map(len, self._spelled))

    def shares(self, prompt_ids: list[int], engine: Engine) -> npt.NDArray[np.float64]:
        """Probabilities of the words, [n_words].

        Words that begin alike and are together less probable than the most probable word share evenly what they have: none of them can be
        the answer, and to know better would cost a pass.
        """
        groups = [(1.0, list(range(len(self._spelled))))]
        while len(groups[-1][1]) > 1:
            groups = sorted(groups[:-1] + self._split(*groups[-1], prompt_ids, engine))
        shares = np.empty(len(self._spelled))
        for share, members in groups:
            shares[members] = share / len(members)
        return shares

    def _split(self, share: float, members: list[int], prompt_ids: list[int], engine: Engine) -> list[tuple[float, list[int]]]:
        """Words that begin alike, as smaller groups: by the first token in which they differ."""
        columns = zip(*(self._spelled[word] for word in members), strict=False)
        common = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
        tokens = sorted({self._spelled[word][len(common)] for word in members})
        weights = probabilities(engine.next_logits(prompt_ids + self._stem_ids + common)[tokens])
        return [
            (share * float(weight), [word for word in members if self._spelled[word][len(common)] == token])
            for token, weight in zip(tokens, weights, strict=True)
        ]
