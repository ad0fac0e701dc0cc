"""The corpus with own dialogues: as many of them as was asked for, and never one that is kept for validation."""

import random

import pytest

from build.training.dialogues import Corpus, Labelled
from build.training.mixture import Mixture
from one_pass import Dialogue
from tests.support import tokenizers_for_tests

EMOTIONS = tokenizers_for_tests.pika_mood().label_names
OWN = [Labelled(Dialogue(f"child {i}", f"pika {i // 2}"), ("sad",), False, "", "own") for i in range(400)]
"""Every line of Pika's twice, after different words of the child's."""


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    return Mixture(EMOTIONS, OWN, own_share=0.25)


def drawn(mixture: Corpus, split: str = "train", noisy: bool = False, count: int = 2000) -> list[Labelled]:
    rng = random.Random(1)
    return [mixture.sample(rng, split, noisy) for _ in range(count)]  # type: ignore[arg-type]


def test_about_a_tenth_is_kept_back_and_the_rest_is_trained_on(mixture: Mixture) -> None:
    assert 0.05 < len(mixture.held_out) / len(OWN) < 0.15
    assert mixture.own_count + len(mixture.held_out) == len(OWN)


def test_what_is_kept_back_is_never_trained_on_nor_is_the_same_line_after_other_words(mixture: Mixture) -> None:
    trained = {example.dialogue.pika_response for example in drawn(mixture) if example.kind == "own"}
    held_out = {example.dialogue.pika_response for example in mixture.held_out}
    assert len(trained) > 100
    assert trained.isdisjoint(held_out)


def test_what_is_kept_back_does_not_depend_on_order_or_on_other_lines(mixture: Mixture) -> None:
    fewer = Mixture(EMOTIONS, OWN[199::-1], own_share=0.25)
    assert {id(example) for example in fewer.held_out} == {id(example) for example in mixture.held_out} & set(map(id, OWN[:200]))


def test_own_dialogues_have_their_share(mixture: Mixture) -> None:
    assert sum(example.kind == "own" for example in drawn(mixture)) / 2000 == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_other_splits_are_the_corpus_alone(mixture: Mixture, split: str) -> None:
    assert drawn(mixture, split, count=200) == drawn(Corpus(EMOTIONS), split, count=200)


def test_own_dialogues_are_disturbed_like_others(mixture: Mixture) -> None:
    texts = {example.dialogue.pika_response for example in OWN}
    assert {e.dialogue.pika_response for e in drawn(mixture) if e.kind == "own"} <= texts
    noisy = [e.dialogue.pika_response in texts for e in drawn(mixture, noisy=True) if e.kind == "own"]
    assert 0.1 < sum(noisy) / len(noisy) < 0.9


@pytest.mark.parametrize("with_held_out", [False, True])
def test_without_own_dialogues_to_train_on_it_is_the_corpus(mixture: Mixture, with_held_out: bool) -> None:
    alone = Mixture(EMOTIONS, mixture.held_out if with_held_out else [], own_share=1.0)
    assert alone.own_count == 0
    assert {example.kind for example in drawn(alone, count=100)}.isdisjoint({"own"})
