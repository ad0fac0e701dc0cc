"""The embedded model is taught to go on just where the strategies leave it."""

import json
import random
from collections import Counter

import numpy as np
import pytest

from build.training.batches import IGNORE, Batch, Batches
from build.training.dialogues import Corpus, Labelled
from build.training.frames import Split
from one_pass import STRATEGIES, CodeTable, Dialogue, Prompt, make_strategies
from one_pass.answer import Logits

DIALOGUE = Dialogue("2+2=4", "Chính xác!")
N_EXAMPLES = 600

Lesson = tuple[list[int], list[int]]
"""What is forced, and what is to follow."""


class OneDialogue(Corpus):
    """Always the same dialogue."""

    def __init__(self, example: Labelled) -> None:
        self._example = example

    def sample(self, rng: random.Random, split: Split, noisy: bool = True) -> Labelled:
        return self._example


def taught(prompt: Prompt, label: str, flag: bool) -> list[Lesson]:
    """Every answer in a batch about one dialogue."""
    corpus = OneDialogue(Labelled(DIALOGUE, (label,), flag, "vi", "confirm"))
    batches = Batches(corpus, prompt, CodeTable(prompt.task, prompt.codec), prompt.codec.vocab_size, N_EXAMPLES)
    return lessons(next(batches.stream(seed=5)))


def lessons(batch: Batch) -> list[Lesson]:
    found: list[Lesson] = []
    for i, row in enumerate(batch.ids.tolist()):
        n_turn = int((batch.dialogue_targets[i] != IGNORE).sum()) + 1
        positions = [p for p, target in enumerate(batch.json_targets[i].tolist()) if target != IGNORE]
        if positions:
            found.append((row[n_turn : positions[0] + 1], batch.json_targets[i, positions].tolist()))
        else:
            found.append(([], [int(batch.code_targets[i].argmax())]))
    return found


class Pupil:
    """An engine that does what it was taught, and knows nothing about any other beginning."""

    def __init__(self, prompt: Prompt, lessons: list[Lesson]) -> None:
        self._vocab_size, self._lessons = prompt.codec.vocab_size, lessons
        self._n_prompt = len(prompt.encode(DIALOGUE))

    def next_logits(self, ids: list[int]) -> Logits:
        so_far = ids[self._n_prompt :]
        logits = np.zeros(self._vocab_size, dtype=np.float32)
        for forced, rest in self._lessons:
            whole = forced + rest
            if len(forced) <= len(so_far) < len(whole) and whole[: len(so_far)] == so_far:
                logits[whole[len(so_far)]] += 1
        assert logits.any(), "nobody has taught how to go on here"
        return logits

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        new: list[int] = []
        while (token := int(self.next_logits(ids + new).argmax())) != end_id:
            new.append(token)
        assert len(new) < max_new_tokens
        return new


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("label", "flag"), [("thats_right", True), ("thinking", False), ("celebration", True), ("calm", False)])
def test_a_model_that_does_as_it_was_taught_answers_every_strategy(prompt: Prompt, name: str, label: str, flag: bool) -> None:
    tag = make_strategies(prompt)[name].tag(prompt.encode(DIALOGUE), Pupil(prompt, taught(prompt, label, flag)))
    assert (tag.emotion_name, tag.flag) == (label, flag)


def test_half_of_the_json_answers_have_the_opening_alone_forced_and_then_the_emotion_comes_first(prompt: Prompt) -> None:
    end = prompt.codec.encode_template(prompt.task.template.example_end)
    seen: Counter[tuple[str, str]] = Counter()
    for forced, rest in taught(prompt, "proud", True):
        if forced:
            assert rest[-len(end) :] == end
            stem, text = (prompt.codec.decode(ids).strip(" ") for ids in (forced, forced + rest))
            seen[stem, next(iter(json.loads(text)))] += 1
            assert json.loads(text) == {"emotion_name": "proud", "celebrate": "yes"}
    assert seen.keys() == {
        ('{"', "emotion_name"),
        ('{"emotion_name": "', "emotion_name"),
        ('{"celebrate": "', "celebrate"),
    }
    assert 0.35 < seen['{"', "emotion_name"] / seen.total() < 0.65
    assert seen['{"celebrate": "', "celebrate"] / seen.total() > 0.25
