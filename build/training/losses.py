"""What the embedded model is taught in one step, and how much each part counts."""

import torch
from transformers import Phi3ForCausalLM

from build.training import network
from build.training.batches import IGNORE, Batch
from build.training.teacher import Teacher

WORD_DROPOUT, PUPIL_WORD_DROPOUT = 0.3, 0.2
"""Share of words that are blanked, so that none alone decides. Who has a teacher needs less to keep from learning by heart."""
TEACHER_SHARE = 0.7
"""How much of a code's target comes from the teacher, if there is one; the rest comes from the labels."""
WEIGHTS = {"code": 1.0, "twins": 0.5, "json": 0.5, "dialogue": 2.0}
"""code: the answer letter. twins: how differently two disturbed forms of a dialogue are answered. json: the JSON answer. dialogue:
guessing the next word of the dialogue is not the task, but it teaches what words mean: without it, held-out frames fare worse."""


def losses(
    model: Phi3ForCausalLM, prefix: torch.Tensor, batch: Batch, device: str, teacher: Teacher | None = None
) -> dict[str, torch.Tensor]:
    """The parts of the loss, by the names in WEIGHTS. `prefix` is int64 [1, P]; gradients flow through it."""
    ids, turn_lengths = batch.ids.to(device, non_blocking=True), batch.turn_lengths.to(device)
    keep = torch.rand(ids.shape, device=device) > (PUPIL_WORD_DROPOUT if teacher else WORD_DROPOUT)
    keep |= torch.arange(ids.shape[1], device=device) >= (turn_lengths - 2)[:, None]  # never the assistant marker, nor the answer
    hidden = network.after_prefix(model, prefix, inputs_embeds=model.model.embed_tokens(ids) * keep[..., None])
    has_code = (batch.code_positions >= 0).nonzero()[:, 0]
    at_code = model.lm_head(hidden[has_code.to(device), batch.code_positions[has_code].to(device)]).float()
    wanted = batch.code_targets[has_code].to(device)
    if teacher:
        wanted = torch.lerp(wanted, teacher.answers(batch), TEACHER_SHARE)
    once, again = (torch.log_softmax(half, dim=-1) for half in at_code.chunk(2))  # the same dialogues, disturbed differently
    parts = {"code": torch.nn.functional.cross_entropy(at_code, wanted), "twins": _divergence(once, again) + _divergence(again, once)}
    for name, targets in (("json", batch.json_targets), ("dialogue", batch.dialogue_targets)):
        rows, columns = (targets != IGNORE).nonzero(as_tuple=True)  # logits only where they are needed: most of the batch is padding
        logits = model.lm_head(hidden[rows.to(device), columns.to(device)]).float()
        summed = torch.nn.functional.cross_entropy(logits, targets[rows, columns].to(device), reduction="sum")
        parts[name] = summed / max(1, len(rows))  # a small batch may have no JSON answer in it
    return parts


def total(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """The weighted sum."""
    return torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()


def _divergence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.kl_div(a, b, reduction="batchmean", log_target=True)
