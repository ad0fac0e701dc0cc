"""Many dialogues in one sequence, behind one copy of the prefix.

All prompts begin with the same prefix, ten times as long as what follows it. So a pass computes the prefix once and lines the turns up
behind it: each sees the prefix and itself, at the positions that it would have alone, because the attention mask and the position ids say
so. Gradients flow through the prefix as they would if every dialogue had its own, and there is no cache of keys and values, so that layers
can be recomputed during the backward pass. Logits are computed where an answer is, and nowhere else.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import Phi3ForCausalLM

from build.training.batches import IGNORE, Batch, Batches
from build.training.dialogues import Labelled
from one_pass import CodeTable, Prompt, Tag

JSON_WEIGHT = 0.5
"""Of the loss of JSON answers, where that of codes weighs 1."""
PREDICTED_AT_ONCE = 32
"""Dialogues in a pass that only reads: more would make the mask larger and the pass not faster."""
BLOCK_TOKENS = 128
"""Sequences are filled up to whole blocks: GPUs prepare attention anew for every length that they have not seen yet."""


@dataclass(frozen=True)
class Packed:
    """One pass: S tokens, of which the first P are the prefix, and the last, seen by no other, fill a block."""

    ids: torch.Tensor
    """int64 [1, S]."""
    positions: torch.Tensor
    """int64 [1, S]: as if each dialogue were alone behind the prefix."""
    mask: torch.Tensor
    """bool [1, 1, S, S]: True where the row's token may look at the column's."""
    place: torch.Tensor
    """int64 [B, T]: where in the sequence a token of the batch has come to lie."""
    size_tokens: int
    """S without what fills the block."""


def pack(prefix_ids: list[int], batch: Batch, device: str) -> Packed:
    """Line the dialogues of a batch up behind the prefix."""
    size = len(prefix_ids)
    column = torch.arange(batch.ids.shape[1]).expand_as(batch.ids)
    real = column < batch.lengths[:, None]
    filling = torch.zeros(-(size + int(real.sum())) % BLOCK_TOKENS, dtype=torch.int64)
    row = torch.arange(len(batch.ids))[:, None].expand_as(batch.ids)[real]
    owner = torch.cat([torch.full((size,), -1), row, filling + len(batch.ids)]).to(device)
    sees = (owner[None, :] == owner[:, None]) | (owner[None, :] == -1)
    return Packed(
        ids=torch.cat([torch.tensor(prefix_ids), batch.ids[real], filling])[None].to(device),
        positions=torch.cat([torch.arange(size), size + column[real], filling])[None].to(device),
        mask=sees.tril_()[None, None],
        place=(size - 1 + real.flatten().cumsum(0)).reshape(real.shape),
        size_tokens=len(owner) - len(filling),
    )


def answer_losses(model: Phi3ForCausalLM, packed: Packed, batch: Batch) -> dict[str, torch.Tensor]:
    """Mean cross entropy over the codes of a batch and over the tokens of its JSON answers, for each of the two that occurs in it."""
    device = packed.ids.device
    hidden = _hidden(model, packed)
    losses = {}
    coded = (batch.code_positions >= 0).nonzero()[:, 0]
    if len(coded):
        logits = model.lm_head(hidden[packed.place[coded, batch.code_positions[coded]].to(device)]).float()
        losses["code"] = cross_entropy(logits, batch.code_targets[coded].to(device))
    rows, columns = (batch.json_targets != IGNORE).nonzero(as_tuple=True)
    if len(rows):
        logits = model.lm_head(hidden[packed.place[rows, columns].to(device)]).float()
        losses["json"] = cross_entropy(logits, batch.json_targets[rows, columns].to(device))
    return losses


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    """The losses as the one that is made smaller."""
    return torch.stack([loss * (JSON_WEIGHT if name == "json" else 1.0) for name, loss in losses.items()]).sum()


@torch.no_grad()
def predict(model: Phi3ForCausalLM, batches: Batches, prompt: Prompt, codes: CodeTable, examples: list[Labelled], device: str) -> list[Tag]:
    """The tags that the network gives, in order."""
    model.eval()
    tags = []
    for start in range(0, len(examples), PREDICTED_AT_ONCE):
        batch = batches.collate(examples[start : start + PREDICTED_AT_ONCE])
        packed = pack(prompt.prefix_ids, batch, device)
        at_code = packed.place[torch.arange(len(batch.ids)), batch.code_positions].to(device)
        logits = model.lm_head(_hidden(model, packed)[at_code]).float().cpu().numpy()
        tags += [codes.read(row) for row in logits]
    return tags


def _hidden(model: Phi3ForCausalLM, packed: Packed) -> torch.Tensor:
    """Float [S, hidden_size]."""
    # A mask of four dimensions is taken as it is.
    out = model.model(input_ids=packed.ids, position_ids=packed.positions, attention_mask=packed.mask, use_cache=False)
    hidden: torch.Tensor = out.last_hidden_state[0]
    return hidden
