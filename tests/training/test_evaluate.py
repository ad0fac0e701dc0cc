"""How a network is judged while it is trained: figures on made-up answers, and the choices of temperature and threshold."""

import random

import numpy as np
import pytest
import torch

from build.training import network
from build.training.batches import Batches
from build.training.dialogues import Corpus, Labelled
from build.training.evaluate import (
    FALSE_COST,
    Logits,
    accuracy,
    best_temperature,
    best_threshold,
    confusion,
    predict,
)
from one_pass import NO_LIMITS, CodeTable, Dialogue, Prompt, Tag
from tests.support import tokenizers_for_tests

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = tokenizers_for_tests.pika_mood()
CODEC = tokenizers_for_tests.codec("byte_level")
CODES = CodeTable(TASK, CODEC)
NAMES = TASK.label_names


def labelled(*emotions: str, celebrate: bool = False) -> Labelled:
    return Labelled(Dialogue("child", "pika"), emotions, celebrate, "en", "tells")


def tagged(emotion: str, flag: bool = False, flag_score: float = 0.0) -> Tag:
    return Tag(emotion, flag, np.zeros(len(NAMES), dtype=np.float32), flag_score)


def answers(sureness: float, share_right: float) -> tuple[list[Labelled], Logits]:
    """Examples, and answers of which that share is right, each more or less as sure as that (a logit)."""
    rng = random.Random(1)
    examples, rows = [], []
    for number in range(200):
        truth, other = rng.sample(NAMES, 2)
        row = np.zeros(CODEC.vocab_size, dtype=np.float32)
        row[CODES.token_for(TASK.answer_for(truth if number < 200 * share_right else other, False))] = sureness + rng.uniform(-0.5, 0.5)
        examples.append(labelled(truth))
        rows.append(row)
    return examples, np.stack(rows)


def confidence(logits: Logits) -> float:
    return float(np.mean([CODES.read(row).emotion_scores.max() for row in logits]))


@pytest.mark.parametrize(("sureness", "share_right"), [(6.0, 0.7), (2.5, 0.9)], ids=["too sure", "not sure enough"])
def test_divided_by_the_temperature_it_is_as_sure_as_it_is_right(sureness: float, share_right: float) -> None:
    examples, logits = answers(sureness, share_right)
    too_sure = confidence(logits) > share_right
    assert abs(confidence(logits) - share_right) > 0.1
    temperature = best_temperature(examples, logits, CODES)
    assert (temperature > 1) == too_sure
    assert confidence(logits / temperature) == pytest.approx(share_right, abs=0.005)


def test_any_acceptable_emotion_is_right_when_the_temperature_is_chosen() -> None:
    examples, logits = answers(4.0, 1.0)
    second_best = [labelled("sad", example.emotion) for example in examples]
    assert best_temperature(second_best, logits, CODES) == best_temperature(examples, logits, CODES)


@pytest.mark.parametrize(("right_ones", "celebrates"), [(FALSE_COST - 1, False), (FALSE_COST + 1, True)])
def test_a_false_celebration_costs_as_much_as_several_missed_ones(right_ones: int, celebrates: bool) -> None:
    # One wrong answer scores higher than some right ones: either it is celebrated, or they are missed.
    said = [(False, 0.62)] + [(True, 0.52)] * right_ones + [(True, 0.97)] * 10 + [(False, 0.02)] * 10
    threshold = best_threshold([labelled("happy", celebrate=yes) for yes, _ in said], [tagged("happy", flag_score=s) for _, s in said])
    assert (threshold <= 0.52) == celebrates
    assert celebrates or 0.62 < threshold <= 0.97


def test_where_scores_are_apart_the_threshold_is_between_them() -> None:
    said = [(False, 0.12), (False, 0.33), (True, 0.37), (True, 0.8)]
    threshold = best_threshold([labelled("happy", celebrate=yes) for yes, _ in said], [tagged("happy", flag_score=s) for _, s in said])
    assert threshold == 0.35


def test_of_thresholds_that_cost_the_same_it_is_the_middle_one() -> None:
    said = [(False, 0.18), (True, 0.82)]
    threshold = best_threshold([labelled("happy", celebrate=yes) for yes, _ in said], [tagged("happy", flag_score=s) for _, s in said])
    assert threshold == 0.5


@pytest.mark.parametrize(("right", "wrong", "celebrates"), [(0.4, 0.36, True), (0.42, 0.4, False)])
def test_a_score_on_the_threshold_celebrates_as_the_tagger_does(right: float, wrong: float, celebrates: bool) -> None:
    # Candidates are 0.05 apart: 0.4 can be the threshold that parts the first two, but not the others, who are both on 0.4 or under 0.45.
    examples = [labelled("happy", celebrate=True), labelled("happy")]
    threshold = best_threshold(examples, [tagged("happy", flag_score=right), tagged("happy", flag_score=wrong)])
    assert (threshold <= right) == celebrates
    assert threshold > wrong


def test_accuracy_counts_acceptable_emotions_and_flags() -> None:
    examples = [
        labelled("happy", "calm"),
        labelled("happy", "calm", celebrate=True),
        labelled("happy"),
        labelled("sad"),
        labelled("proud", celebrate=True),
    ]
    tags = [tagged("calm"), tagged("happy", True), tagged("sad", True), tagged("sad"), tagged("happy", False)]
    figures = accuracy(examples, tags, TASK)
    by_emotion = figures.pop("by_emotion")
    assert figures == {"emotion": 0.6, "best_emotion": 0.4, "celebrate": 0.6, "false_celebrations": 0.3333}
    assert by_emotion == dict.fromkeys(NAMES, 0.0) | {"happy": 0.6667, "sad": 1.0}


def test_confusion_has_truth_in_rows_and_takes_what_is_acceptable_for_true() -> None:
    examples = [labelled("happy"), labelled("happy"), labelled("happy", "calm"), labelled("sad", "worry")]
    counts = confusion(examples, [tagged("happy"), tagged("sad"), tagged("calm"), tagged("proud")], TASK)
    found = {(NAMES[y], NAMES[x]): count for y, row in enumerate(counts) for x, count in enumerate(row) if count}
    assert found == {("happy", "happy"): 1, ("happy", "sad"): 1, ("calm", "calm"): 1, ("sad", "proud"): 1}
    assert [len(row) for row in counts] == [len(NAMES)] * len(NAMES)


def test_every_dialogue_gets_the_tag_of_a_plain_forward_over_its_own_prompt() -> None:
    corpus, rng = Corpus(NAMES), random.Random(6)
    prompt = Prompt(TASK, CODEC, 64, NO_LIMITS)
    torch.manual_seed(3)
    small = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "initializer_range": 0.3}
    model = network.build(network.config_fields(CODEC.vocab_size, end_of_text_id=0, bos_id=1) | small, dropout=0.5).train()
    sampled = sorted((corpus.sample(rng, "test") for _ in range(400)), key=lambda example: len(prompt.encode_turn(example.dialogue)))
    examples = sampled[:260]  # more than fit one pass
    batches = Batches(corpus, prompt, CODES, CODEC.vocab_size, batch_size=8)
    tags = predict(model, batches, prompt, CODES, examples, "cpu")
    assert len(tags) == len(examples)
    model.eval()
    for number in (0, 100, 249, 250, 259):
        with torch.no_grad():
            logits = model(torch.tensor([prompt.encode(examples[number].dialogue)]), use_cache=False).logits[0, -1]
        expected = CODES.read(logits.numpy())
        assert tags[number].emotion_scores == pytest.approx(expected.emotion_scores, rel=1e-3)
        assert tags[number].flag_score == pytest.approx(expected.flag_score, rel=1e-3)
    assert len({tag.flag_score for tag in tags}) > 200
