"""Training on a 4-bit grid: the embedded model answers with the weights that it will have after quantization.

A network as small as this one loses a point or more when it is quantized afterwards, so it learns with rounded weights from the beginning.
What is rounded, and how, is as in AutoAWQ 0.2.9 (`AwqQuantizer.pseudo_quantize_tensor` with zero points): the linear layers of the decoder,
in groups along the inputs. The weights that are written lie on the grid, and the stage `quantize` finds the same grid again.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import Phi3ForCausalLM

from build.awq_config import GROUP_SIZE

LEVELS = 15
"""Steps between the least and the greatest weight of a group."""


class Rounded(nn.Module):
    """The nearest weights on the grid; gradients pass as if nothing had been rounded."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Weights [out_features, in_features], float32, rounded group by group."""
        groups = weight.detach().reshape(-1, GROUP_SIZE)
        least, greatest = groups.aminmax(dim=1, keepdim=True)
        step = (greatest - least).clamp(min=1e-5) / LEVELS
        zero = (-torch.round(least / step)).clamp(0, LEVELS)
        rounded = ((torch.round(groups / step) + zero).clamp(0, LEVELS) - zero) * step
        return weight + (rounded.reshape(weight.shape) - weight.detach())


def attach(model: Phi3ForCausalLM) -> None:
    """Let the decoder's linear layers compute with rounded weights from now on; what is trained is not rounded."""
    for layer in _linear_layers(model):
        parametrize.register_parametrization(layer, "weight", Rounded())


def settle(model: Phi3ForCausalLM) -> None:
    """Undo `attach`, and leave the rounded weights."""
    for layer in _linear_layers(model):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _linear_layers(model: Phi3ForCausalLM) -> list[nn.Linear]:
    return [module for module in model.model.layers.modules() if isinstance(module, nn.Linear)]
