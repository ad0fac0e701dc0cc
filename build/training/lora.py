"""An adapter of low rank on every linear layer but the lm_head, by peft.

Where it sits and how strong it is relative to its rank is decided here; rank and dropout are the preset's.
"""

import peft
import torch
from transformers import Phi3ForCausalLM

LAYERS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
SCALE = 2
"""What the product of the two small matrices is multiplied by."""


def attach(model: Phi3ForCausalLM, rank: int, dropout: float) -> None:
    """Freeze the network and give it an adapter, in float32, that changes nothing yet."""
    config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, lora_dropout=dropout, target_modules=list(LAYERS))
    peft.get_peft_model(model, config)


@torch.no_grad()
def change(model: Phi3ForCausalLM, name: str) -> torch.Tensor | None:
    """What the adapter adds to the weight of that name, in float32; None if it leaves it alone."""
    module = model.get_submodule(name.rpartition(".")[0])
    return module.get_delta_weight("default").float() if isinstance(module, peft.tuners.lora.Linear) else None
