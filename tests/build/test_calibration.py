"""Calibration samples: whole prompts with right answers, of one length, the same for the same seed."""

import random

import pytest

from build import calibration
from build.training.dialogues import Corpus
from one_pass import NO_LIMITS, CodeTable, Prompt
from tests.support import tokenizers_for_tests

COUNT = 6


@pytest.fixture(scope="module", params=tokenizers_for_tests.KINDS)
def prompt(request: pytest.FixtureRequest) -> Prompt:
    return Prompt(tokenizers_for_tests.pika_mood(), tokenizers_for_tests.codec(request.param), 32, NO_LIMITS)


@pytest.fixture(scope="module")
def samples(prompt: Prompt) -> list[list[int]]:
    return calibration.samples(prompt, COUNT, seed=7)


def test_every_sample_has_exactly_the_same_length(prompt: Prompt, samples: list[list[int]]) -> None:
    assert [len(ids) for ids in samples] == [len(prompt.prefix_ids) + calibration.TURN_TOKENS] * COUNT


def test_every_sample_starts_with_the_prefix_and_a_dialogue(prompt: Prompt, samples: list[list[int]]) -> None:
    n_prefix, (user,) = len(prompt.prefix_ids), prompt.codec.encode_template("<|user|>")
    assert all(ids[:n_prefix] == prompt.prefix_ids and ids[n_prefix] == user for ids in samples)


def test_every_answer_is_the_token_of_a_code_and_ends_the_turn(prompt: Prompt, samples: list[list[int]]) -> None:
    codes = {CodeTable(prompt.task, prompt.codec).token_for(answer) for answer in prompt.task.answers}
    (assistant,), (end,) = prompt.codec.encode_template("<|assistant|>"), prompt.codec.encode_template("<|end|>")
    n_answers = 0
    for ids in samples:
        assert {ids[i + 1] for i, token in enumerate(ids[:-1]) if token == assistant} <= codes
        after_answers = [ids[i + 2] for i, token in enumerate(ids[:-2]) if token == assistant]
        assert set(after_answers) == {end}
        n_answers += len(after_answers)
    assert n_answers > COUNT * len(prompt.task.examples)


def test_the_answers_are_those_of_the_dialogues(prompt: Prompt, samples: list[list[int]]) -> None:
    rng, corpus = random.Random(7), Corpus(prompt.task.label_names)
    example = corpus.sample(rng, "train", noisy=False)
    code = CodeTable(prompt.task, prompt.codec).token_for(prompt.task.answer_for(example.emotion, example.celebrate))
    turn = prompt.encode_turn(example.dialogue)
    start = len(prompt.prefix_ids)
    assert samples[0][start : start + len(turn) + 1] == [*turn, code]


def test_equal_seeds_give_equal_samples_and_others_do_not(prompt: Prompt, samples: list[list[int]]) -> None:
    assert calibration.samples(prompt, COUNT, seed=7) == samples
    other = calibration.samples(prompt, COUNT, seed=8)
    assert all(a != b for a, b in zip(samples, other, strict=True))


def test_samples_differ_from_each_other(samples: list[list[int]]) -> None:
    assert len({tuple(ids) for ids in samples}) == COUNT


def test_more_samples_begin_with_the_same_ones(prompt: Prompt, samples: list[list[int]]) -> None:
    assert calibration.samples(prompt, 2, seed=7) == samples[:2]
