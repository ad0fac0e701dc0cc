"""The embedded model's network: what it computes behind the shared prefix, and what is written of it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import GenerationConfig, Phi3ForCausalLM

from build.training import network

VOCAB_SIZE = 60
SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1}
FIELDS = network.config_fields(VOCAB_SIZE, end_of_text_id=2, bos_id=1) | SMALL
PREFIX = torch.randint(VOCAB_SIZE, (1, 40), generator=torch.Generator().manual_seed(1))


def small(dropout: float = 0.0) -> Phi3ForCausalLM:
    torch.manual_seed(3)
    return network.build({**FIELDS, "initializer_range": 0.2}, dropout).double()


def some_rows(count: int) -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (count, 9), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("count", [1, 3])
def test_behind_the_prefix_is_what_a_plain_forward_over_both_computes(count: int) -> None:
    model, rows = small(), some_rows(count)
    whole = model.model(input_ids=torch.cat([PREFIX.expand(count, -1), rows], dim=1), use_cache=False).last_hidden_state
    torch.testing.assert_close(network.after_prefix(model, PREFIX, input_ids=rows), whole[:, PREFIX.shape[1] :])


def test_embeddings_may_stand_in_for_ids() -> None:
    model, rows = small(), some_rows(2)
    embedded = network.after_prefix(model, PREFIX, inputs_embeds=model.model.embed_tokens(rows))
    torch.testing.assert_close(embedded, network.after_prefix(model, PREFIX, input_ids=rows))


def test_the_prefix_is_computed_once_for_all_rows() -> None:
    model, seen = small(), []
    model.model.layers[0].register_forward_hook(lambda _module, inputs, _output: seen.append(tuple(inputs[0].shape[:2])))
    network.after_prefix(model, PREFIX, input_ids=some_rows(3))
    assert seen == [(1, 40), (3, 9)]


def test_there_is_dropout_in_training_and_nowhere_else() -> None:
    model, rows = small(dropout=0.5), some_rows(1)
    for training in (True, False):
        model.train(training)
        once, again = (network.after_prefix(model, PREFIX, input_ids=rows) for _ in range(2))
        assert torch.equal(once, again) != training


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network.save(small().state_dict(), FIELDS, [2, 7], tmp_path)
    return tmp_path


def test_what_is_saved_says_float16_and_is(folder: Path) -> None:
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert json.loads((folder / "config.json").read_text()) == FIELDS
    assert FIELDS["torch_dtype"] == "float16"


def test_transformers_loads_what_is_saved(folder: Path) -> None:
    loaded, said = Phi3ForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not any(said.values())
    assert loaded.dtype == torch.float16
    expected = small().half().state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in loaded.state_dict().items())


def test_generation_ends_at_any_of_the_end_tokens(folder: Path) -> None:
    generation = GenerationConfig.from_pretrained(folder)
    assert (generation.eos_token_id, generation.bos_token_id, generation.pad_token_id) == ([2, 7], 1, 2)


def test_what_is_saved_is_loaded_as_it_was(folder: Path) -> None:
    loaded = network.load(folder, "cpu")
    assert not loaded.training
    expected = small().half().float().state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in loaded.state_dict().items())


DEEP = FIELDS | {"num_hidden_layers": 4, "intermediate_size": 384, "initializer_range": 0.2}


def test_thinned_to_its_own_size_it_computes_the_same() -> None:
    torch.manual_seed(3)
    teacher = network.build(DEEP, 0.0).eval()
    pupil = network.thinned(teacher, DEEP, 0.0).eval()
    rows = some_rows(2)
    torch.testing.assert_close(pupil(rows).logits, teacher(rows).logits)


@pytest.mark.parametrize(("n_layers", "kept"), [(1, [0]), (2, [0, 3]), (3, [0, 2, 3])])
def test_thinned_it_keeps_first_last_and_evenly_spread_layers(n_layers: int, kept: list[int]) -> None:
    torch.manual_seed(3)
    teacher = network.build(DEEP, 0.0)
    pupil = network.thinned(teacher, DEEP | {"num_hidden_layers": n_layers}, 0.0)
    for layer, source in zip(pupil.model.layers, kept, strict=True):
        assert torch.equal(layer.self_attn.qkv_proj.weight, teacher.model.layers[source].self_attn.qkv_proj.weight)
    assert torch.equal(pupil.lm_head.weight, teacher.lm_head.weight)


def test_thinned_it_keeps_the_neurons_that_say_most() -> None:
    torch.manual_seed(3)
    teacher = network.build(DEEP, 0.0).eval()
    with torch.no_grad():
        for layer in teacher.model.layers:
            layer.mlp.down_proj.weight[:, 1::3] = 0.0  # 256 of the 384 say something
    pupil = network.thinned(teacher, DEEP | {"intermediate_size": 256}, 0.0).eval()
    rows = some_rows(2)
    torch.testing.assert_close(pupil(rows).logits, teacher(rows).logits)
