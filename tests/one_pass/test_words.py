"""Answers in the model's own words: what is asked, pass by pass, and what the logits add up to."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from one_pass import AnswerError, Dialogue, Prompt, Task, TaskError, TextCodec
from one_pass.answer import Logits
from one_pass.words import Words
from tests.support import tokenizers_for_tests
from tests.support.table_engine import TableEngine

DIALOGUE = Dialogue("2+2=4", "Chính xác!")


def answer(task: Task, label: str, flag: bool) -> str:
    """The JSON in which the flag comes first."""
    return json.dumps({task.flag_name: "yes" if flag else "no", "emotion_name": label}, ensure_ascii=False)


def engine_for(prompt: Prompt, weights: dict[tuple[str, bool], float]) -> TableEngine:
    answers = {answer(prompt.task, label, flag): weight for (label, flag), weight in weights.items()}
    return TableEngine(prompt, prompt.encode(DIALOGUE), answers)


def everything(task: Task, **favoured: float) -> dict[tuple[str, bool], float]:
    """Every answer with the same small weight, save those that are named."""
    return {(label, flag): favoured.get(label, 0.01) for label in task.label_names for flag in (False, True)}


def asked_texts(prompt: Prompt, engine: TableEngine) -> list[str]:
    """What had been written down of the answer before each pass, SentencePiece's space at the beginning aside."""
    return [prompt.codec.decode(ids).strip(" ") for ids in engine.asked]


@pytest.fixture
def plain_prompt(task: Task, codec: TextCodec) -> Prompt:
    """Three labels that begin unlike in both tokenizers."""
    labels = tuple(label for label in task.labels if label.name in ("happy", "sad", "worry"))
    return Prompt(dataclasses.replace(task, labels=labels, examples=()), codec, 32)


def test_two_passes_each_with_the_answer_so_far_forced(plain_prompt: Prompt) -> None:
    engine = engine_for(plain_prompt, {("sad", True): 0.4, ("happy", False): 0.45, ("worry", False): 0.15})
    tag = Words(plain_prompt).tag(plain_prompt.encode(DIALOGUE), engine)
    assert asked_texts(plain_prompt, engine) == ['{"celebrate": "', '{"celebrate": "no", "emotion_name": "']
    assert (tag.emotion_name, tag.flag) == ("happy", False)
    assert tag.flag_score == pytest.approx(0.4)
    assert tag.emotion_scores.tolist() == pytest.approx([0.75, 0.0, 0.25])


def test_what_the_first_pass_decides_is_written_down_for_the_second(plain_prompt: Prompt) -> None:
    weights = {("sad", True): 0.6, ("happy", False): 0.4}
    engine = engine_for(plain_prompt, weights)
    tag = Words(plain_prompt).tag(plain_prompt.encode(DIALOGUE), engine)
    assert asked_texts(plain_prompt, engine)[1] == '{"celebrate": "yes", "emotion_name": "'
    assert (tag.emotion_name, tag.flag) == ("sad", True)
    assert tag.emotion_scores.tolist() == [0.0, 1.0, 0.0]


def test_the_second_pass_goes_on_where_the_first_ended(prompt: Prompt) -> None:
    engine = engine_for(prompt, everything(prompt.task, thinking=1.0, thats_right=1.0))
    Words(prompt).tag(prompt.encode(DIALOGUE), engine)
    assert len(engine.asked) >= 3
    for before, after in zip(engine.asked, engine.asked[1:], strict=False):
        assert after[: len(before)] == before  # so that the KV cache holds it


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("position", range(13))
def test_every_label_is_told_from_every_other(prompt: Prompt, position: int, flag: bool) -> None:
    label = prompt.task.label_names[position]
    weights = everything(prompt.task) | {(label, flag): 1.0}
    tag = Words(prompt).tag(prompt.encode(DIALOGUE), engine_for(prompt, weights))
    assert (tag.emotion_name, tag.flag) == (label, flag)


def test_labels_that_begin_alike_cost_a_pass_only_if_they_lead(prompt: Prompt) -> None:
    spelled = {name: prompt.answer_ids(name, after='{"celebrate": "no", "emotion_name": "')[0] for name in prompt.task.label_names}
    assert spelled["thinking"] == spelled["thats_right"] != spelled["happy"]
    others = engine_for(prompt, everything(prompt.task, happy=1.0, thinking=0.4, thats_right=0.2))
    led = engine_for(prompt, everything(prompt.task, happy=0.5, thinking=0.4, thats_right=0.2))
    words = Words(prompt)
    apart = words.tag(prompt.encode(DIALOGUE), others)
    assert (apart.emotion_name, len(others.asked)) == ("happy", 2)
    # Nobody asked which of the two it would have been.
    scores = dict(zip(prompt.task.label_names, apart.emotion_scores.tolist(), strict=True))
    assert scores["thinking"] == scores["thats_right"] == pytest.approx(0.3 / (1.6 + 0.1))
    # Together they lead, apart they do not: the answer is the same.
    together = words.tag(prompt.encode(DIALOGUE), led)
    assert (together.emotion_name, len(led.asked)) == ("happy", 3)
    scores = dict(zip(prompt.task.label_names, together.emotion_scores.tolist(), strict=True))
    assert (scores["thinking"], scores["thats_right"]) == pytest.approx((0.4 / 1.2, 0.2 / 1.2))


@given(data=st.data(), another_task=st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_scores_are_those_of_the_model_for_whole_words(
    prompt: Prompt, other_prompt: Prompt, data: st.DataObject, another_task: bool
) -> None:
    prompt = other_prompt if another_task else prompt
    names = prompt.task.label_names
    parts = data.draw(st.lists(st.integers(1, 1000), min_size=2 * len(names), max_size=2 * len(names)))
    weights = {pair: part / sum(parts) for pair, part in zip(everything(prompt.task), parts, strict=True)}
    tag = Words(prompt).tag(prompt.encode(DIALOGUE), engine_for(prompt, weights))

    yes = sum(weight for (_, flag), weight in weights.items() if flag)
    assert tag.flag_score == pytest.approx(yes, abs=1e-5)
    assert tag.flag == (tag.flag_score >= prompt.task.flag_threshold)
    conditional = [weights[name, tag.flag] / (yes if tag.flag else 1 - yes) for name in names]
    assert tag.emotion_scores.dtype == np.float32
    assert tag.emotion_scores.sum() == pytest.approx(1.0, abs=1e-5)
    assert tag.emotion_scores.max() == pytest.approx(max(conditional), abs=1e-4)
    assert conditional[names.index(tag.emotion_name)] == pytest.approx(max(conditional), abs=1e-4)


@pytest.mark.parametrize(("threshold", "flag"), [(0.2, True), (0.4, False)])
def test_the_threshold_of_the_task_file_decides_the_flag(plain_prompt: Prompt, threshold: float, flag: bool) -> None:
    prompt = Prompt(dataclasses.replace(plain_prompt.task, flag_threshold=threshold), plain_prompt.codec, 32)
    engine = engine_for(prompt, {("sad", True): 0.3, ("happy", False): 0.7})
    tag = Words(prompt).tag(prompt.encode(DIALOGUE), engine)
    assert tag.flag_score == pytest.approx(0.3)
    assert (tag.flag, tag.emotion_name) == (flag, "sad" if flag else "happy")


def test_the_longest_pass_is_no_longer_than_promised(prompt: Prompt, other_prompt: Prompt) -> None:
    for one in (prompt, other_prompt):
        words = Words(one)
        for label in one.task.label_names:
            engine = engine_for(one, everything(one.task) | {(label, True): 1.0})
            words.tag(one.encode(DIALOGUE), engine)
            assert max(map(len, engine.asked)) + 1 <= words.max_answer_tokens


class Damaged:
    """An engine whose logits are no numbers, all or the ones of a single token."""

    def __init__(self, odd: float, token_id: int) -> None:
        self._odd, self._token_id = odd, token_id

    def next_logits(self, ids: list[int]) -> Logits:
        logits = np.zeros(5000, dtype=np.float32)
        logits[self._token_id] = self._odd
        return logits

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        raise AssertionError("words generates nothing")


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("text", "after"), [("yes", '{"celebrate": "'), ("worry", '{"celebrate": "yes", "emotion_name": "')])
def test_logits_that_are_not_finite_are_refused_in_either_pass(prompt: Prompt, odd: float, text: str, after: str) -> None:
    engine = Damaged(odd, prompt.answer_ids(text, after=after)[0])
    with pytest.raises(AnswerError, match="the engine returned logits that are not finite numbers"):
        Words(prompt).tag(prompt.encode(DIALOGUE), engine)


def test_labels_that_are_spelled_alike_are_refused_with_both(task: Task) -> None:
    spec = json.loads(tokenizers_for_tests.tokenizer_json("sentence_piece"))
    spec["model"]["byte_fallback"] = False  # then every character outside the vocabulary becomes <unk>
    labels = tuple(dataclasses.replace(label, name={"happy": "🦖", "sad": "🐘"}.get(label.name, label.name)) for label in task.labels)
    prompt = Prompt(dataclasses.replace(task, labels=labels, examples=()), TextCodec(json.dumps(spec)), 32)
    with pytest.raises(TaskError, match=r"spells '🦖' and '🐘' alike after .*, so the strategy words cannot tell them apart: rename one"):
        Words(prompt)


def test_an_answer_that_grows_together_with_the_text_before_it_is_refused(task: Task, codec: TextCodec) -> None:
    glued = dataclasses.replace(task.template, assistant="<|assistant|>Cele")  # "Celeb" is a token, or begins one
    prompt = Prompt(dataclasses.replace(task, template=glued, examples=()), codec, 32)
    with pytest.raises(TaskError, match=r"joins 'brate' with the end of '<\|assistant\|>Cele' in one token: choose another name"):
        prompt.answer_ids("brate")
