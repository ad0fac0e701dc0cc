"""A reference is computed layer by layer as the whole model would, found again for the same checkpoint and prompts, and made for others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from build import ROOT, manifest, verify_network, verify_prompts, verify_reference
from build.errors import CheckpointError, ManifestError, PromptError
from build.verify_prompts import Prompts
from build.verify_reference import Reference, find_or_make
from tests.support import awq_checkpoints, dequantize
from tests.support.awq_checkpoints import Phi3Size
from tests.support.checkout import Checkout

PREFIX = [5, 6, 7, 8, 9, 10]
TURNS = [[11], [12, 13, 14], [12, 13, 15, 16]]
TOKENS = np.array([3, 60, 17])
TINY = ROOT / "checkpoints" / "pika-tiny" / "hf"


def calm(folder: Path, size: Phi3Size) -> Path:
    """A random checkpoint whose weights are small enough for logits that depend on every layer."""
    tensors = awq_checkpoints.random_tensors(size)
    small = {name: np.full_like(value, 0.01) for name, value in tensors.items() if name.endswith("scales")}
    return awq_checkpoints.write(folder, awq_checkpoints.hf_config(size), tensors | small, shards=2)


@pytest.mark.parametrize("size", [Phi3Size(layers=3), Phi3Size(heads=4, kv_heads=2)], ids=["plain", "grouped"])
def test_each_prompt_gets_the_logits_that_it_would_get_alone(tmp_path: Path, size: Phi3Size) -> None:
    awq = calm(tmp_path / "awq", size)
    found = verify_network.last_logits(awq, PREFIX, TURNS, TOKENS)
    whole = Phi3ForCausalLM(Phi3Config.from_pretrained(awq)).eval()
    whole.load_state_dict(dequantize.from_awq(awq))
    with torch.inference_mode():
        expected = np.stack([whole(torch.tensor([PREFIX + turn])).logits[0, -1].numpy()[TOKENS] for turn in TURNS])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32
    assert len({round(float(value), 3) for value in found.flatten()}) == found.size  # nothing is equal by chance


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    awq = calm(tmp_path / "awq", Phi3Size())
    (awq / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing"):
        verify_network.last_logits(awq, PREFIX, TURNS, TOKENS)


@pytest.fixture
def quantized(place: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Checkout:
    """A model with an AWQ checkpoint that is large enough for the tokenizer of the embedded model, and nothing stored with the code."""
    folder = calm(place.model.folder / "awq", Phi3Size(vocab=4096, layers=1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TINY / name).read_bytes())
    seal(place)
    monkeypatch.setattr(verify_reference, "DATA", tmp_path / "stored")
    return place


def seal(place: Checkout) -> None:
    folder = place.model.folder / "awq"
    manifest.seal(folder, "quantize", {}, {}, sorted(path.name for path in folder.iterdir() if path.name != manifest.NAME))


def prompts_of(place: Checkout, tokens_per_block: int = 16) -> Prompts:
    return verify_prompts.load(place.model.task_file, place.model.folder / "awq" / "tokenizer.json", tokens_per_block)


def test_it_is_made_once_and_says_so(quantized: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = prompts_of(quantized)
    made = find_or_make(quantized.model, prompts)
    assert "there is no reference for this checkpoint of small" in capsys.readouterr().err
    found = find_or_make(quantized.model, prompts)
    assert capsys.readouterr().err == ""
    assert made.path == found.path == quantized.model.folder / "reference" / "reference.json"
    assert np.array_equal(made.logits, found.logits)
    awq = quantized.model.folder / "awq"
    exact = verify_network.last_logits(awq, prompts.prompt.prefix_ids, prompts.turns, prompts.codes.token_ids)
    np.testing.assert_allclose(made.logits, exact, atol=1e-4)
    assert made.logits.shape == (50, len(prompts.codes.token_ids))


def test_it_is_made_again_for_another_checkpoint_and_for_other_prompts(quantized: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    first = find_or_make(quantized.model, prompts_of(quantized))
    other_prompts = find_or_make(quantized.model, prompts_of(quantized, tokens_per_block=64))
    assert other_prompts.awq == first.awq
    assert other_prompts.prompts != first.prompts
    config = quantized.model.folder / "awq" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 500.0}))
    seal(quantized)
    other_weights = find_or_make(quantized.model, prompts_of(quantized, tokens_per_block=64))
    assert other_weights.awq != first.awq
    assert not np.allclose(other_weights.logits, other_prompts.logits, atol=1e-3)
    assert capsys.readouterr().err.count("there is no reference") == 3


def test_one_that_is_stored_with_the_code_is_preferred(quantized: Checkout, tmp_path: Path) -> None:
    prompts = prompts_of(quantized)
    made = find_or_make(quantized.model, prompts)
    stored = tmp_path / "stored" / "small.json"
    stored.parent.mkdir()
    stored.write_bytes(made.path.read_bytes())
    assert find_or_make(quantized.model, prompts).path == stored
    stored.write_text(stored.read_text().replace(made.awq, "0" * 64))
    assert find_or_make(quantized.model, prompts).path == made.path


def test_a_damaged_one_is_named(quantized: Checkout, tmp_path: Path) -> None:
    stored = tmp_path / "stored" / "small.json"
    stored.parent.mkdir()
    stored.write_text('{"awq": "')
    with pytest.raises(ManifestError, match=r"small\.json is no stored reference"):
        find_or_make(quantized.model, prompts_of(quantized))


def test_an_interrupted_computation_leaves_nothing(quantized: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify_network, "last_logits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_or_make(quantized.model, prompts_of(quantized))
    assert quantized.left() == ["awq"]


def test_a_tokenizer_without_the_codes_is_refused(quantized: Checkout) -> None:
    tokenizer = quantized.model.folder / "awq" / "tokenizer.json"
    tokenizer.write_text("{}")
    with pytest.raises(PromptError, match=r"pika_mood\.toml and .*tokenizer\.json do not fit together"):
        prompts_of(quantized)


def test_the_spread_is_that_of_the_logits() -> None:
    assert Reference("", "", np.array([[1.0, 3.0]], dtype=np.float32), Path()).spread == 1.0
