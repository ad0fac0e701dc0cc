"""The CPU engine without Triton: reuse of the KV cache changes nothing but the time."""

from pathlib import Path

import numpy as np
import pytest

from cpu_engine import CpuEngine, InvalidRequestError
from one_pass import Dialogue, Prompt

pytestmark = pytest.mark.e2e

DIALOGUES = [
    Dialogue("Bốn ạ", "Đúng rồi!", "Hai cộng hai bằng mấy?"),
    Dialogue("I like trains", "Trains are so much fun!"),
    Dialogue("", "Chào cậu!"),
    Dialogue("I like trains", "Trains are so much fun, and loud!"),
]


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "tensorrt_llm" / "1" / "engine"


def test_logits_after_reuse_are_those_of_a_fresh_engine(folder: Path, prompt: Prompt) -> None:
    warm = CpuEngine(folder)
    for dialogue in DIALOGUES * 2:
        ids = prompt.encode(dialogue)
        fresh = CpuEngine(folder).generate(ids, 4)
        reused = warm.generate(ids, 4)
        assert reused.token_ids == fresh.token_ids
        np.testing.assert_allclose(reused.logits, fresh.logits, atol=1e-4)


def test_the_prefix_is_reused_and_all_of_it(folder: Path, prompt: Prompt) -> None:
    engine = CpuEngine(folder)
    first, *others = [engine.generate(prompt.encode(dialogue), 1) for dialogue in DIALOGUES]
    assert first.reused_tokens == 0
    assert all(generation.reused_tokens >= len(prompt.prefix_ids) for generation in others)
    assert len(prompt.prefix_ids) % 32 == 0


def test_the_same_prompt_again_computes_one_token(folder: Path, prompt: Prompt) -> None:
    engine = CpuEngine(folder)
    ids = prompt.encode(DIALOGUES[0])
    engine.generate(ids, 1)
    assert engine.generate(ids, 1).reused_tokens == len(ids) - 1


def test_a_refused_request_leaves_the_cache_usable(folder: Path, prompt: Prompt) -> None:
    engine = CpuEngine(folder)
    ids = prompt.encode(DIALOGUES[0])
    expected = engine.generate(ids, 2)
    for bad_ids, n_new in (([], 1), ([-1], 1), ([engine.vocab_size], 1), (ids, 0), (ids, engine.max_tokens)):
        with pytest.raises(InvalidRequestError):
            engine.generate(bad_ids, n_new)
    np.testing.assert_allclose(engine.generate(ids, 2).logits, expected.logits, atol=1e-4)
