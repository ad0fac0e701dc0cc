"""Phi-3 in float32 on a CPU, one layer in memory at a time: logits of many prompts without room for the model.

All prompts go through together as one sequence: the prefix that they share, then one turn after the other. A mask keeps the turns from
seeing each other, and each begins at the position after the prefix, so every turn gets the logits that it would get alone. Layers are
transformers' own; how they are fed is said here.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Phi3Config
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer, Phi3RMSNorm, Phi3RotaryEmbedding

from build.dequantize import AwqWeights


@torch.inference_mode()
def last_logits(
    checkpoint: Path, prefix_ids: Sequence[int], turns: Sequence[Sequence[int]], token_ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Logits of the token that would follow each prompt.

    Args:
        checkpoint: an AutoAWQ checkpoint of Phi-3's architecture.
        prefix_ids: what all prompts begin with.
        turns: the rest of each prompt.
        token_ids: [n_tokens], the tokens whose logits are wanted.

    Returns:
        float32 [n_turns, n_tokens].

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    weights = AwqWeights(checkpoint)
    config = Phi3Config.from_pretrained(checkpoint, local_files_only=True, attn_implementation="sdpa")
    ids = torch.tensor([*prefix_ids, *(i for turn in turns for i in turn)])
    starts_at = len(prefix_ids)
    positions = torch.tensor([*range(starts_at), *(starts_at + i for turn in turns for i in range(len(turn)))])
    owners = torch.tensor([-1] * starts_at + [number for number, turn in enumerate(turns) for _ in turn])
    visible = ((owners[None] == owners[:, None]) | (owners == -1)[None]).tril()[None, None]

    hidden = weights["model.embed_tokens"][ids][None]
    rotation = Phi3RotaryEmbedding(config)(hidden, positions[None])
    for number in tqdm(range(config.num_hidden_layers), unit="layer", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False):
        layer = _layer(config, weights, f"model.layers.{number}")
        hidden = layer(hidden, attention_mask=visible, position_embeddings=rotation)
    ends = torch.tensor([len(turn) for turn in turns]).cumsum(0) + starts_at - 1
    norm = Phi3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
    norm.load_state_dict({"weight": weights["model.norm"]})
    logits: npt.NDArray[np.float32] = (norm(hidden[0, ends]) @ weights["lm_head"][torch.from_numpy(token_ids)].T).numpy()
    return logits


def _layer(config: Phi3Config, weights: AwqWeights, prefix: str) -> Phi3DecoderLayer:
    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        layer = Phi3DecoderLayer(config, layer_idx=0)
    own = {name: weights[f"{prefix}.{name.removesuffix('.weight')}"] for name in layer.state_dict()}
    layer.load_state_dict(own, assign=True)
    return layer.eval()
