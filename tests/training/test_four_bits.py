"""Weights on the 4-bit grid: AutoAWQ's own arithmetic, gradients that pass, and committed weights that lose nothing."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from build import settings
from build.awq_config import GROUP_SIZE
from build.quantize import _import_autoawq
from build.training import four_bits, network
from build.training.four_bits import Rounded

pytestmark = pytest.mark.usefixtures("one_thread")

FIELDS = network.config_fields(50, end_of_text_id=2, bos_id=1) | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
ROWS = torch.randint(50, (2, 5), generator=torch.Generator().manual_seed(2))


def some_weights() -> torch.Tensor:
    return torch.randn(64, 2 * GROUP_SIZE, generator=torch.Generator().manual_seed(7)) * 0.05 + 0.01


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # AutoAWQ announces its retirement
def test_the_grid_is_autoawqs_own() -> None:
    _import_autoawq()
    from awq.quantize.quantizer import AwqQuantizer

    said = SimpleNamespace(group_size=GROUP_SIZE, zero_point=True, w_bit=4)
    expected, *_ = AwqQuantizer.pseudo_quantize_tensor(said, some_weights())
    torch.testing.assert_close(Rounded()(some_weights()), expected, atol=1e-7, rtol=0)


def test_a_group_has_sixteen_values_and_is_not_rounded_again() -> None:
    once = Rounded()(some_weights())
    assert max(len(group.unique()) for group in once.reshape(-1, GROUP_SIZE)) <= four_bits.LEVELS + 1
    assert (once - some_weights()).abs().max() > 1e-3
    torch.testing.assert_close(Rounded()(once), once, atol=1e-6, rtol=0)


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    weights = some_weights().requires_grad_()
    aim = torch.randn(weights.shape, generator=torch.Generator().manual_seed(8))
    (found,) = torch.autograd.grad((Rounded()(weights) * aim).sum(), weights)
    assert torch.equal(found, aim)


def test_the_decoders_linear_layers_compute_with_rounded_weights_and_nothing_else_does() -> None:
    torch.manual_seed(3)
    model = network.build(FIELDS, 0.0).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = model(ROWS).logits
    four_bits.attach(model)
    rounded = model(ROWS).logits
    assert (rounded - plain).abs().max() > 1e-3
    four_bits.settle(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    torch.testing.assert_close(model(ROWS).logits, rounded)
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if "_proj.weight" in name}


def test_what_is_trained_is_not_rounded() -> None:
    torch.manual_seed(3)
    model = network.build(FIELDS, 0.0)
    four_bits.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    weight = model.model.layers[0].mlp.down_proj.parametrizations.weight.original
    before = weight.detach().clone()
    cross_entropy(model(ROWS).logits[:, -1], torch.tensor([3, 4])).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert 0 < (weight - before).abs().max() < 1e-4  # far less than a step of the grid


def test_the_committed_weights_lie_on_the_grid() -> None:
    weights = load_file(settings.model("pika-tiny").folder / "hf" / "model.safetensors")
    quantized = {name: tensor.float() for name, tensor in weights.items() if "_proj.weight" in name}
    assert len(quantized) == 4 * network.SHAPE["num_hidden_layers"]
    for name, tensor in quantized.items():
        assert (Rounded()(tensor) - tensor).abs().max() < 2e-3 * tensor.abs().max(), name
