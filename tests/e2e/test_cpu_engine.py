"""The CPU engine without Triton: reuse of the KV cache changes nothing but the time, and sequences do not disturb each other."""

from pathlib import Path

import numpy as np
import pytest

from cpu_engine import CpuEngine, KvSequence
from engine_request import Request
from generation import Generation
from one_pass import Dialogue, Prompt

pytestmark = pytest.mark.e2e

DIALOGUES = [
    Dialogue("Bốn ạ", "Đúng rồi!", "Hai cộng hai bằng mấy?"),
    Dialogue("I like trains", "Trains are so much fun!"),
    Dialogue("", "Chào cậu!"),
    Dialogue("I like trains", "Trains are so much fun, and loud!"),
]


@pytest.fixture(scope="module")
def engine(repository: Path) -> CpuEngine:
    return CpuEngine(repository / "tensorrt_llm" / "1" / "engine")


def generated(engine: CpuEngine, sequence: KvSequence, ids: list[int], n_new: int) -> Generation:
    generation = Generation(Request(ids, n_new, wants_logits=True), sequence, engine)
    generation.run()
    return generation


def test_logits_after_reuse_are_those_of_a_fresh_sequence(engine: CpuEngine, prompt: Prompt) -> None:
    warm = engine.new_sequence()
    for dialogue in DIALOGUES * 2:
        ids = prompt.encode(dialogue)
        fresh, reused = (generated(engine, sequence, ids, 4) for sequence in (engine.new_sequence(), warm))
        assert reused.tokens == fresh.tokens
        np.testing.assert_allclose(reused.logits, fresh.logits, atol=1e-4)


def test_the_prefix_is_reused_and_all_of_it(engine: CpuEngine, prompt: Prompt) -> None:
    sequence = engine.new_sequence()
    first, *others = [sequence.one_pass(prompt.encode(dialogue)) for dialogue in DIALOGUES]
    assert first.reused_tokens == 0
    assert all(found.reused_tokens >= len(prompt.prefix_ids) for found in others)
    assert len(prompt.prefix_ids) % 32 == 0


def test_the_same_prompt_again_computes_one_token(engine: CpuEngine, prompt: Prompt) -> None:
    sequence, ids = engine.new_sequence(), prompt.encode(DIALOGUES[0])
    sequence.one_pass(ids)
    assert sequence.one_pass(ids).reused_tokens == len(ids) - 1


def test_sequences_that_take_turns_give_what_they_give_alone(engine: CpuEngine, prompt: Prompt) -> None:
    prompts = [prompt.encode(dialogue) for dialogue in DIALOGUES]
    alone = [generated(engine, engine.new_sequence(), ids, 20).tokens for ids in prompts]
    together = [Generation(Request(ids, 20), engine.new_sequence(), engine) for ids in prompts]
    while not all(generation.finished for generation in together):
        for generation in together:
            if not generation.finished:
                generation.step(16)
    assert [generation.tokens for generation in together] == alone
    assert len({tuple(tokens) for tokens in alone}) > 1


def test_logits_of_the_prompt_are_those_of_each_of_its_beginnings(engine: CpuEngine, prompt: Prompt) -> None:
    ids, sequence = prompt.encode(DIALOGUES[0])[:40], engine.new_sequence()
    sequence.extend(ids[:5])
    generation = Generation(Request(ids, 1, wants_context_logits=True, wants_logits=True), sequence, engine)
    generation.run()
    assert np.shape(generation.context_logits) == (len(ids), engine.vocab_size)
    for n in (1, 5, 17, len(ids)):
        np.testing.assert_allclose(generation.context_logits[n - 1], engine.new_sequence().one_pass(ids[:n]).logits, atol=1e-3)
    np.testing.assert_array_equal(generation.context_logits[-1], generation.logits[0])


def test_a_sequence_that_overflows_fails_and_is_usable_afterwards(engine: CpuEngine, prompt: Prompt) -> None:
    sequence, ids = engine.new_sequence(), prompt.encode(DIALOGUES[0])
    expected = sequence.one_pass(ids).logits
    with pytest.raises(RuntimeError):
        sequence.extend([5] * engine.max_tokens)
    assert sequence.ids == []
    np.testing.assert_allclose(sequence.one_pass(ids).logits, expected, atol=1e-4)
