"""Larger networks, trained on the same corpus, from whose answers the embedded model learns besides the labels.

Their answers say more than a label: which emotions are near, and how sure one can be. They are asked about both twins of a dialogue, and
the mean of all that they say is what both are taught.
"""

from pathlib import Path

import torch

from build.training import network
from build.training.batches import Batch


class Teacher:
    """One or more trained networks that only answer."""

    def __init__(self, folders: list[Path], prefix_ids: list[int], tokenizer_json: Path, device: str) -> None:
        """Load checkpoints that `train` has made.

        Raises:
            ValueError: one of them reads with another tokenizer than the pupil's `tokenizer_json`.
        """
        for folder in folders:
            if (folder / "tokenizer.json").read_bytes() != tokenizer_json.read_bytes():
                raise ValueError(f"{folder} was trained on another corpus: its tokenizer differs. Train the teacher anew")
        self.networks = [network.load(folder, device) for folder in folders]
        self._prefix = torch.tensor([prefix_ids], device=device)

    @torch.no_grad()
    def answers(self, batch: Batch) -> torch.Tensor:
        """Probabilities float32 [n, vocab] of the token after each of the n turns that are answered with a code."""
        device = self._prefix.device
        rows = (batch.code_positions >= 0).nonzero()[:, 0]
        ids, at = batch.ids[rows].to(device), batch.code_positions[rows].to(device)
        said = []
        for each in self.networks:
            hidden = network.after_prefix(each, self._prefix, input_ids=ids)
            said.append(torch.softmax(each.lm_head(hidden[torch.arange(len(at), device=device), at]).float(), dim=-1))
        first, second = torch.stack(said).mean(dim=0).chunk(2)
        return ((first + second) / 2).repeat(2, 1)
