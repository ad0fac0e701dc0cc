"""A network and what changes its weights, one step at a time.

Here is everything that a step depends on besides its data: which weights are trained and in which precision, the optimizer, the schedule.
What a step is taught comes from outside; when to stop, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import Phi3ForCausalLM

from build.settings import Finetuning
from build.training import lora, packing
from build.training.batches import Batch

WARM_UP_SHARE = 0.06
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Step:
    """What one step has shown: mean losses of its passes, and how many tokens they computed, the prefix included."""

    losses: dict[str, float]
    tokens: int


def load(folder: Path, plan: Finetuning, device: str) -> Phi3ForCausalLM:
    """The network of a checkpoint as `plan` wants it trained: frozen weights in bfloat16 on a GPU, trained ones in float32."""
    frozen = plan.lora_rank is not None
    dtype = torch.bfloat16 if frozen and device == "cuda" else torch.float32
    dropout = 0.0 if frozen else plan.dropout
    model: Phi3ForCausalLM = Phi3ForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa", resid_pdrop=dropout)
    return model.to(device)


class Learner:
    """Steps of one plan on one network."""

    def __init__(self, model: Phi3ForCausalLM, plan: Finetuning, prefix_ids: list[int], device: str) -> None:
        """Choose the weights to train; where these are an adapter's, attach it."""
        self.model, self._plan, self._prefix_ids, self._device = model, plan, prefix_ids, device
        if plan.lora_rank is not None:
            lora.attach(model, plan.lora_rank, plan.dropout)
            # What every layer would have to remember is several times as large as the network.
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.trained: dict[str, torch.nn.Parameter] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self.trained.values(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=device == "cuda"
        )

    def step(self, number: int, batches: Sequence[Batch]) -> Step:
        """Change the weights once. Steps are numbered from 1."""
        self.model.train()
        sums: dict[str, list[float]] = {}
        tokens = 0
        for batch in batches:
            packed = packing.pack(self._prefix_ids, batch, self._device)
            with torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
                losses = packing.answer_losses(self.model, packed, batch)
            (packing.total(losses) / len(batches)).backward()  # type: ignore[no-untyped-call]
            tokens += packed.size_tokens
            for name, loss in losses.items():
                sums.setdefault(name, []).append(loss.item())
        torch.nn.utils.clip_grad_norm_(self.trained.values(), MAX_GRADIENT_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.learning_rate * rate(number, self._plan.steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return Step({name: fmean(values) for name, values in sums.items()}, tokens)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the trained weights."""
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.trained.items()}

    @torch.no_grad()
    def set_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Make the trained weights those that `weights` once returned."""
        for name, parameter in self.trained.items():
            parameter.copy_(weights[name])

    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on."""
        on_gpu = self._device == "cuda"
        return {
            "weights": self.weights(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_on_gpu": torch.cuda.get_rng_state() if on_gpu else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` once returned."""
        self.set_weights(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if self._device == "cuda" and state["random_on_gpu"] is not None:
            torch.cuda.set_rng_state(state["random_on_gpu"])

    @torch.no_grad()
    def merged(self, name: str, base: torch.Tensor) -> torch.Tensor:
        """The weight of that name in the result, in the type of the one that it comes from."""
        if self._plan.lora_rank is None:
            return self.trained[name].detach().to("cpu", base.dtype)
        change = lora.change(self.model, name)
        return base if change is None else (base.float() + change.cpu()).to(base.dtype)


def rate(number: int, steps: int) -> float:
    """Share of the learning rate in a step: up in a line, down in half a wave of the cosine, above zero throughout."""
    rising = max(1, round(steps * WARM_UP_SHARE))
    if number <= rising:
        return number / rising
    return 0.5 + 0.5 * math.cos(math.pi * (number - rising) / (steps - rising + 1))
