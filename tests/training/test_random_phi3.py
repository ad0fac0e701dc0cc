"""The checkpoint of random weights is one that the pipeline takes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM

from build import download
from build.training import random_phi3

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 4200,
}


def test_the_pipeline_takes_it(tmp_path: Path) -> None:
    out = tmp_path / "not_there_yet"
    random_phi3.write(out, SHAPE)
    download.check(out)
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.float16}
    config = Phi3ForCausalLM.from_pretrained(out).config
    assert {name: getattr(config, name) for name in SHAPE} == SHAPE
    assert config.rope_scaling is None
