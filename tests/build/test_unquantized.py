"""The unquantized checkpoint answers as the tagger would: same prompt, same codes, same threshold, and no memory of other dialogues."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Phi3ForCausalLM

from build.unquantized import Unquantized
from one_pass import CodeTable, Dialogue, Prompt, Tag, Task, TextCodec
from pika_tagger._labelled import Row
from pika_tagger._outcomes import Outcome
from tests.support import small_phi3, tokenizers_for_tests

BLOCK = 32
TEXTS = [
    {
        "user_last_message": "Dạ bằng 7 ạ",
        "pika_response": "Chính xác! Con tính nhanh quá!",
        "pika_last_message": "Ba cộng bốn bằng mấy nhỉ?",
    },
    {"user_last_message": "I like dinosaurs best", "pika_response": "Exactly, dinosaurs are the coolest!"},
    {"user_last_message": "", "pika_response": "Oh no, I am so sorry."},
]


@pytest.fixture(scope="module", params=tokenizers_for_tests.KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    small_phi3.write(folder, request.param)
    return folder


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> Unquantized:
    return Unquantized(checkpoint, tokenizers_for_tests.pika_mood(), BLOCK)


def rows(*texts: dict[str, str]) -> list[Row]:
    return [Row(number, None, each, ("calm",), False, None) for number, each in enumerate(texts, 1)]


def without_a_cache(checkpoint: Path, task: Task, texts: dict[str, str]) -> Tag:
    """The answer of one pass over the whole prompt."""
    codec = TextCodec.load(checkpoint / "tokenizer.json")
    model = Phi3ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        ids = Prompt(task, codec, BLOCK).encode(Dialogue(**texts))
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return CodeTable(task, codec).read(logits.numpy())


def scores(outcome: Outcome) -> list[float]:
    assert outcome.tag is not None
    return [*outcome.tag.emotion_scores.values(), outcome.tag.celebrate_score]


def test_a_kept_prefix_changes_nothing(checkpoint: Path, network: Unquantized) -> None:
    task = tokenizers_for_tests.pika_mood()
    for texts, outcome in zip(TEXTS, network.outcomes(rows(*TEXTS)), strict=True):
        expected = without_a_cache(checkpoint, task, texts)
        assert outcome.tag is not None
        assert (outcome.tag.emotion_name, outcome.tag.celebrate) == (expected.emotion_name, expected.flag)
        assert tuple(outcome.tag.emotion_scores) == task.label_names
        assert scores(outcome) == pytest.approx([*expected.emotion_scores.tolist(), expected.flag_score], abs=1e-5)
        assert outcome.tag.latency_ms > 0


def test_answers_do_not_depend_on_what_was_asked_before(network: Unquantized) -> None:
    first, second, again = network.outcomes(rows(TEXTS[0], TEXTS[1], TEXTS[0]))
    assert scores(first) == scores(again)
    assert not np.allclose(scores(first), scores(second), atol=1e-3)


def test_the_threshold_is_that_of_the_task(checkpoint: Path, network: Unquantized) -> None:
    (outcome,) = network.outcomes(rows(TEXTS[0]))
    assert outcome.tag is not None
    for threshold, celebrate in ((outcome.tag.celebrate_score - 0.01, True), (outcome.tag.celebrate_score + 0.01, False)):
        task = replace(tokenizers_for_tests.pika_mood(), flag_threshold=threshold)
        (moved,) = Unquantized(checkpoint, task, BLOCK).outcomes(rows(TEXTS[0]))
        assert moved.tag is not None
        assert moved.tag.celebrate is celebrate


def test_what_the_tagger_refuses_fails_here_too_and_the_next_row_is_answered(network: Unquantized) -> None:
    refused, answered = network.outcomes(rows({"user_last_message": "a", "pika_response": "b" * 5000}, TEXTS[0]))
    assert refused.tag is None
    assert refused.error == "InvalidDialogueError: pika_response has 5000 bytes; the limit is 4096"
    assert answered.tag is not None


def test_logits_that_are_no_numbers_fail_their_row(checkpoint: Path) -> None:
    broken = Unquantized(checkpoint, tokenizers_for_tests.pika_mood(), BLOCK)
    with torch.no_grad():
        broken._network.lm_head.weight.fill_(float("nan"))
    (outcome,) = broken.outcomes(rows(TEXTS[0]))
    assert outcome.error is not None
    assert outcome.error.startswith("AnswerError: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the arithmetic is float16")
def test_float16_weights_are_computed_in_float32_on_a_cpu(network: Unquantized) -> None:
    assert network.arithmetic == "float32 on cpu"
    assert network._network.lm_head.weight.dtype == torch.float32
