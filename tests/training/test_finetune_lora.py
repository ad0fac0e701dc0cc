"""LoRA on a small random Phi-3: the result is the base plus what the adapter learned, in the same files, and nothing else is different."""

from collections.abc import Iterator
from pathlib import Path

import peft
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM

from build import download, manifest
from build.training import lora, packing
from build.training.batches import Batches
from build.training.dialogues import Corpus
from build.training.finetune import finetune
from build.training.learner import Learner
from tests.support import tokenizers_for_tests
from tests.training import small_models
from tests.training.small_models import PLAN, Place

ADAPTED = {
    f"model.layers.{layer}.{module}.weight"
    for layer in (0, 1)
    for module in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with small_models.place(tmp_path_factory.mktemp("lora"), small_models.like_phi_3) as place:
        finetune(place.planned(lora_rank=4), small_models.TARGET)
        yield place


def tensors(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """File -> name -> tensor."""
    return {path.name: load_file(path) for path in folder.glob("*.safetensors")}


def test_only_adapted_weights_are_others(place: Place) -> None:
    before, after = tensors(place.base.folder / "hf"), tensors(place.tuned.folder / "hf")
    assert len(before) > 1
    assert {file: list(weights) for file, weights in after.items()} == {file: list(weights) for file, weights in before.items()}
    changed = {name for file, weights in before.items() for name, weight in weights.items() if not torch.equal(weight, after[file][name])}
    assert changed == ADAPTED
    types = {(weight.dtype, after[file][name].dtype) for file, weights in before.items() for name, weight in weights.items()}
    assert types == {(torch.bfloat16, torch.bfloat16)}


def test_other_files_are_copied_byte_for_byte(place: Place) -> None:
    before, after = place.base.folder / "hf", place.tuned.folder / "hf"
    names = [path.name for path in before.iterdir() if path.suffix != ".safetensors" and path.name != manifest.NAME]
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"} <= set(names)
    assert [name for name in names if (before / name).read_bytes() != (after / name).read_bytes()] == []
    with safe_open(next(after.glob("*.safetensors")), framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_pipeline_takes_on_from_it(place: Place) -> None:
    download.check(place.tuned.folder / "hf")
    manifest.verify_contents(place.tuned.folder / "hf")


@pytest.fixture
def learner(place: Place) -> Learner:
    """Three steps with an adapter, in float32."""
    folder = place.base.folder / "hf"
    torch.manual_seed(3)
    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt, codes = small_models.prompt_of(folder)
    batches = Batches(Corpus(tokenizers_for_tests.pika_mood().label_names), prompt, codes, model.config.vocab_size, PLAN.batch_size)
    learner = Learner(model, place.planned(lora_rank=4).finetune or PLAN, prompt.prefix_ids, "cpu")
    stream = batches.stream(1)
    for number in (1, 2, 3):
        learner.step(number, [next(stream)])
    return learner


def test_the_merged_weight_is_the_base_plus_the_product_of_the_two_small_matrices(learner: Learner) -> None:
    name = "model.layers.1.mlp.gate_up_proj"
    small = [learner.trained[f"{name}.lora_{letter}.default.weight"] for letter in "BA"]
    base = learner.model.get_submodule(name).base_layer.weight.detach()
    expected = base + 2 * small[0] @ small[1]
    assert not torch.equal(expected, base)
    assert torch.allclose(learner.merged(f"{name}.weight", base), expected, rtol=1e-6, atol=1e-8)
    assert learner.merged(f"{name}.weight", base.bfloat16()).dtype == torch.bfloat16


def test_the_merged_network_answers_as_the_one_that_was_trained(place: Place, learner: Learner) -> None:
    ids = torch.arange(20)[None]
    learner.model.eval()
    trained = learner.model(ids, use_cache=False).logits
    weights = {key: value for file in tensors(place.base.folder / "hf").values() for key, value in file.items()}
    merged = Phi3ForCausalLM.from_pretrained(place.base.folder / "hf", dtype=torch.float32).eval()
    base = merged(ids, use_cache=False).logits
    merged.load_state_dict({name: learner.merged(name, weight.float()) for name, weight in weights.items()})
    assert torch.allclose(merged(ids, use_cache=False).logits, trained, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(base, trained, rtol=1e-2, atol=1e-3)


def test_only_the_adapter_is_trained_and_it_begins_without_effect(place: Place) -> None:
    model = Phi3ForCausalLM.from_pretrained(place.base.folder / "hf", dtype=torch.float32).eval()
    ids = torch.arange(20)[None]
    before = model(ids).logits
    lora.attach(model, rank=4, dropout=0.5)
    assert torch.equal(model.eval()(ids).logits, before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name.removesuffix('weight')}lora_{letter}.default.weight" for name in ADAPTED for letter in "AB"}


def test_layers_are_recomputed_and_give_the_gradients_that_they_would_give_otherwise(place: Place, learner: Learner) -> None:
    prompt, codes = small_models.prompt_of(place.base.folder / "hf")
    batches = Batches(Corpus(tokenizers_for_tests.pika_mood().label_names), prompt, codes, learner.model.config.vocab_size, 4)
    batch = next(batches.stream(4))
    passes: list[int] = []
    learner.model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))

    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(8)
        learner.model.train()
        losses = packing.answer_losses(learner.model, packing.pack(prompt.prefix_ids, batch, "cpu"), batch)
        packing.total(losses).backward()  # type: ignore[no-untyped-call]
        found = [parameter.grad.clone() for parameter in learner.trained.values() if parameter.grad is not None]
        learner.model.zero_grad()
        return found

    recomputed = gradients()
    assert len(passes) == 2
    learner.model.gradient_checkpointing_disable()
    for gradient, expected in zip(recomputed, gradients(), strict=True):
        assert torch.allclose(gradient, expected, rtol=1e-5, atol=1e-9)
    assert len(recomputed) == len(learner.trained)
    assert len(passes) == 3


def test_the_adapter_is_kept_in_float32_on_a_network_in_bfloat16(place: Place) -> None:
    model = Phi3ForCausalLM.from_pretrained(place.base.folder / "hf", dtype=torch.bfloat16)
    lora.attach(model, rank=4, dropout=0.0)
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}
    assert isinstance(model.model.layers[0].mlp.down_proj, peft.tuners.lora.Linear)
