"""Reading the one answer token: which ids count, what they add up to, and what is refused."""

import dataclasses
import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from one_pass import CodeTable, Prompt, Task, TaskError, TextCodec
from tests.support import tokenizers_for_tests
from tests.support.tokenizers_for_tests import KINDS, WORD_START

Logits = npt.NDArray[np.float32]
FLOOR = -1e4
"""So low that its probability is exactly 0."""


@pytest.fixture(scope="session")
def codes(task: Task, codec: TextCodec) -> CodeTable:
    return CodeTable(task, codec)


def spellings(kind: str, answer: str) -> list[int]:
    """Every token that is the letter, with or without the marker of a word's start."""
    vocabulary = json.loads(tokenizers_for_tests.tokenizer_json(kind))["model"]["vocab"]
    return [vocabulary[mark + answer] for mark in ("", WORD_START, "\u0120") if mark + answer in vocabulary]


def naive_probabilities(kind: str, logits: Logits) -> dict[str, float]:
    """Softmax over all spellings of all codes, one token at a time."""
    answers = tokenizers_for_tests.pika_mood().answers
    highest = max(float(logits[i]) for answer in answers for i in spellings(kind, answer))
    weights = {answer: sum(math.exp(float(logits[i]) - highest) for i in spellings(kind, answer)) for answer in answers}
    return {answer: weight / sum(weights.values()) for answer, weight in weights.items()}


def logits_of(codec: TextCodec, values: dict[int, float], other: float = FLOOR) -> Logits:
    logits = np.full(codec.vocab_size, other, dtype=np.float32)
    for token_id, value in values.items():
        logits[token_id] = value
    return logits


def test_each_code_is_the_one_token_that_follows_the_assistant_marker(task: Task, codec: TextCodec, prompt: Prompt) -> None:
    codes = CodeTable(task, codec)
    for answer in task.answers:
        assert codec.encode_template(task.template.assistant + answer) == [*prompt.assistant_ids, codes.token_for(answer)]
    assert len({codes.token_for(answer) for answer in task.answers}) == 26


def test_all_spellings_of_all_codes_count_and_nothing_else(kind: str, task: Task, codes: CodeTable) -> None:
    expected = [i for answer in task.answers for i in spellings(kind, answer)]
    assert sorted(codes.token_ids.tolist()) == sorted(expected)
    assert len(expected) > len(task.answers)


def test_two_spellings_of_a_letter_are_added(kind: str, codec: TextCodec, codes: CodeTable) -> None:
    alone, in_a_word = spellings(kind, "h")
    rival = spellings(kind, "s")[0]
    tag = codes.read(logits_of(codec, {alone: 1.0, in_a_word: 1.0, rival: 1.5}))
    assert tag.emotion_name == "happy"  # although the single most probable token says sad
    assert tag.emotion_scores[0] == pytest.approx(2 * math.e / (2 * math.e + math.exp(1.5)))


@pytest.mark.parametrize("position", range(13))
@pytest.mark.parametrize("flag", [False, True])
def test_every_code_is_read_as_its_label_and_flag(task: Task, codec: TextCodec, codes: CodeTable, position: int, flag: bool) -> None:
    name = task.label_names[position]
    tag = codes.read(logits_of(codec, {codes.token_for(task.answer_for(name, flag)): 5.0}))
    assert (tag.emotion_name, tag.flag, tag.flag_score) == (name, flag, float(flag))
    assert tag.emotion_scores.tolist() == [float(i == position) for i in range(13)]


def test_an_emotion_may_win_by_both_cases_together(codec: TextCodec, codes: CodeTable) -> None:
    tag = codes.read(logits_of(codec, {codes.token_for("d"): 1.0, codes.token_for("D"): 1.0, codes.token_for("R"): 1.5}))
    assert tag.emotion_name == "proud"
    assert tag.flag is True


def test_scores_are_float32_in_the_order_of_the_labels(codec: TextCodec, codes: CodeTable) -> None:
    scores = codes.read(logits_of(codec, {codes.token_for("c"): 0.0})).emotion_scores
    assert scores.dtype == np.float32
    assert scores.shape == (13,)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_probabilities_are_those_of_a_naive_softmax_over_the_codes(kind: str, data: st.DataObject, scale: float, seed: int) -> None:
    task, codec = tokenizers_for_tests.pika_mood(), tokenizers_for_tests.codec(kind)
    codes = CodeTable(task, codec)
    logits = (np.random.default_rng(seed).normal(size=codec.vocab_size) * scale).astype(np.float32)
    for answer in data.draw(st.lists(st.sampled_from(task.answers), max_size=4)):
        logits[codes.token_for(answer)] = data.draw(st.floats(-(2.0**100), 2.0**100, width=32))
    expected = naive_probabilities(kind, logits)
    found = codes.probabilities(logits)
    assert found.shape == (2, 13)
    assert found.sum() == pytest.approx(1.0)
    assert found.reshape(-1).tolist() == pytest.approx([expected[answer] for answer in task.answers])

    tag = codes.read(logits)
    by_label = [expected[label.code] + expected[label.code.upper()] for label in task.labels]
    assert tag.emotion_scores.tolist() == pytest.approx(by_label, abs=1e-6)
    assert tag.emotion_scores[task.label_names.index(tag.emotion_name)] == tag.emotion_scores.max()
    assert tag.flag_score == pytest.approx(sum(expected[label.code.upper()] for label in task.labels))
    assert tag.flag == (tag.flag_score >= task.flag_threshold)


@pytest.mark.parametrize("noise", [50.0, 3e38, math.inf, math.nan])
def test_tokens_that_are_no_codes_are_ignored(codec: TextCodec, codes: CodeTable, noise: float) -> None:
    values = {int(i): float(n % 7) for n, i in enumerate(codes.token_ids)}
    quiet, loud = codes.read(logits_of(codec, values)), codes.read(logits_of(codec, values, other=noise))
    assert (loud.emotion_name, loud.flag_score) == (quiet.emotion_name, quiet.flag_score)
    np.testing.assert_array_equal(loud.emotion_scores, quiet.emotion_scores)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("answer", ["h", "B"])
def test_logits_of_codes_that_are_not_finite_are_refused(codec: TextCodec, codes: CodeTable, odd: float, answer: str) -> None:
    with pytest.raises(ValueError, match="the engine returned logits that are not finite numbers"):
        codes.read(logits_of(codec, {codes.token_for(answer): odd}))


@pytest.mark.parametrize(("threshold", "flag"), [(0.1, True), (0.5, True), (0.51, False), (0.9, False)])
def test_the_flag_is_set_from_the_threshold_on(task: Task, codec: TextCodec, threshold: float, flag: bool) -> None:
    codes = CodeTable(dataclasses.replace(task, flag_threshold=threshold), codec)
    tag = codes.read(logits_of(codec, {codes.token_for("r"): 0.0, codes.token_for("R"): 0.0}))
    assert tag.flag_score == 0.5
    assert tag.flag is flag


def test_letters_that_share_a_token_are_refused_with_both_letters(task: Task) -> None:
    spec = json.loads(tokenizers_for_tests.tokenizer_json("byte_level"))
    spec["normalizer"] = {"type": "Lowercase"}
    with pytest.raises(TaskError, match=r"the codes 'h' and 'H' share token \d+: give one label another letter"):
        CodeTable(task, TextCodec(json.dumps(spec)))


def test_a_letter_of_several_tokens_is_refused_with_the_letter(task: Task) -> None:
    spec = json.loads(tokenizers_for_tests.tokenizer_json("sentence_piece"))
    spec["model"]["merges"] = [merge for merge in spec["model"]["merges"] if "".join(merge) != WORD_START + "W"]
    with pytest.raises(TaskError, match=r"the code 'W' is not one token after the assistant marker in this tokenizer"):
        CodeTable(task, TextCodec(json.dumps(spec)))


def test_a_letter_that_grows_together_with_the_text_before_it_is_refused(task: Task, codec: TextCodec) -> None:
    glued = dataclasses.replace(task.template, assistant="<|assistant|>Cele")  # "Celeb" is a token, or begins one
    with pytest.raises(TaskError, match=r"the code '.' is not one token after the assistant marker"):
        CodeTable(dataclasses.replace(task, template=glued), codec)
