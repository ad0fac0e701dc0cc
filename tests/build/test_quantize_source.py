"""An AutoAWQ checkpoint made elsewhere is taken if it can be converted and is of the model in hf/, else refused with both sides named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from build import manifest, quantize
from build.errors import CheckpointError, ManifestError
from tests.support import awq_checkpoints
from tests.support.awq_checkpoints import Phi3Size
from tests.support.checkout import Checkout

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ANOTHER = "they are two models; give the checkpoint that was quantized from the second, or download the model that the first is of"
SIZE = Phi3Size()
CODES = torch.randn(2, SIZE.vocab, SIZE.hidden, generator=torch.Generator().manual_seed(3)).bfloat16()
"""Embedding and lm_head of the model, as it comes from the hub."""


@pytest.fixture
def here(place: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout in which the model's hf/ is finished."""
    monkeypatch.setattr(quantize, "ROOT", place.root)
    hf = place.finished("hf", {"config.json": json.dumps(unquantized(SIZE)), "tokenizer.json": '{"of": "hf"}'})
    save_file({EMBEDDING: CODES[0].clone()}, hf / "model-00001-of-00002.safetensors")
    save_file({HEAD: CODES[1].clone()}, hf / "model-00002-of-00002.safetensors")
    manifest.seal(hf, "download", {}, {}, [path.name for path in hf.iterdir() if path.name != manifest.NAME])
    return place


def unquantized(size: Phi3Size) -> dict[str, Any]:
    return {k: v for k, v in awq_checkpoints.hf_config(size).items() if k != "quantization_config"}


def given(folder: Path, size: Phi3Size = SIZE, shards: int = 1, change: Callable[[awq_checkpoints.Tensors], None] | None = None) -> Path:
    """An AutoAWQ checkpoint of the model, or of another if its size or a tensor is changed."""
    tensors = awq_checkpoints.random_tensors(size)
    if size == SIZE:
        tensors |= {EMBEDDING: CODES[0].half().numpy(), HEAD: CODES[1].half().numpy()}
    if change:
        change(tensors)
    return awq_checkpoints.write(folder, awq_checkpoints.hf_config(size), tensors, shards)


def refused(here: Checkout, source: Path, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        quantize.quantize(here.model, here.target, str(source))
    assert message in str(caught.value)
    assert not (here.model.folder / "awq").exists()


@pytest.mark.parametrize("shards", [1, 3])
def test_it_is_taken_with_the_tokenizer_of_the_model(here: Checkout, shards: int, capsys: pytest.CaptureFixture[str]) -> None:
    source = given(here.root / "theirs", shards=shards)
    for name in ("generation_config.json", "tokenizer.json", "modeling_phi3.py", "pytorch_model.bin"):
        (source / name).write_text("of theirs")
    quantize.quantize(here.model, here.target, str(source))
    awq = here.model.folder / "awq"
    made = manifest.verify_contents(awq)
    assert made.settings["awq_source"] == str(source)
    assert made.inputs == {"hf": manifest.read(here.model.folder / "hf").content_hash}
    assert (awq / "tokenizer.json").read_text() == '{"of": "hf"}'
    assert made.files.keys() == {path.name for path in source.iterdir()} - {"modeling_phi3.py", "pytorch_model.bin"}
    assert all((awq / name).read_bytes() == (source / name).read_bytes() for name in made.files.keys() - {"tokenizer.json"})
    quantize.check(awq, here.model.folder / "hf")
    told, made_of = capsys.readouterr().out.splitlines()
    assert told == f"taking the AutoAWQ checkpoint in {source}; `doit awq_source= quantize` would quantize anew"
    assert made_of.startswith("checkpoints/small/awq: ")


@pytest.mark.parametrize("name", [EMBEDDING, HEAD])
def test_one_of_other_weights_is_refused_though_its_sizes_are_the_same(here: Checkout, name: str) -> None:
    def change(tensors: awq_checkpoints.Tensors) -> None:
        tensors[name][-1, -1] *= 2

    source = given(here.root / "theirs", change=change)
    refused(here, source, f"{name} is not the same in {source} and {here.model.folder / 'hf'}: {ANOTHER}")


def test_one_of_another_size_is_refused_with_both_sizes(here: Checkout) -> None:
    source = given(here.root / "theirs", Phi3Size(layers=3))
    refused(here, source, f"num_hidden_layers is 3 in {source} and 2 in {here.model.folder / 'hf'}: {ANOTHER}")


def test_one_that_is_not_whole_is_refused(here: Checkout) -> None:
    refused(here, here.root / "none", f"{here.root / 'none'} is not a directory")
    lacking = "model.layers.1.mlp.down_proj.qzeros"

    def change(tensors: awq_checkpoints.Tensors) -> None:
        del tensors[lacking]

    source = given(here.root / "theirs", change=change)
    refused(here, source, f"{source} lacks {lacking}")


def test_what_is_not_quantized_is_refused(here: Checkout) -> None:
    refused(here, here.model.folder / "hf", "has no quantization_config: this is not a quantized checkpoint, quantize it first")


def test_without_the_model_it_is_not_taken(place: Checkout) -> None:
    with pytest.raises(ManifestError, match="hf has no manifest"):
        quantize.quantize(place.model, place.target, str(given(place.root / "theirs")))
