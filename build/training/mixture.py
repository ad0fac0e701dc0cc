"""The corpus with a user's own dialogues mixed in.

A tenth of the own dialogues is never trained on, so that one can see what the model makes of such lines. A line of Pika's decides by its
hash alone on which side all dialogues with it are: adding others moves none.
"""

import random
from collections.abc import Iterable
from dataclasses import replace

from build.training import noise
from build.training.dialogues import Corpus, Labelled
from build.training.frames import Split, split_of


class Mixture(Corpus):
    """A corpus whose training dialogues are, in part, one's own."""

    def __init__(self, emotions: tuple[str, ...], own: Iterable[Labelled], own_share: float) -> None:
        """Read the corpus and divide the own dialogues; without any, this is the corpus. Raises as Corpus."""
        super().__init__(emotions)
        self._own: list[Labelled] = []
        self.held_out: list[Labelled] = []
        """The own dialogues to validate on."""
        for example in own:
            # The split called test is a tenth.
            (self.held_out if split_of(example.dialogue.pika_response) == "test" else self._own).append(example)
        self._own_share = own_share if self._own else 0.0

    @property
    def own_count(self) -> int:
        """How many own dialogues are trained on."""
        return len(self._own)

    def sample(self, rng: random.Random, split: Split, noisy: bool = True) -> Labelled:
        """One dialogue of that split; for training, in the given share of cases, an own one with the same noise as any other."""
        if split != "train" or rng.random() >= self._own_share:
            return super().sample(rng, split, noisy)
        own = rng.choice(self._own)
        return replace(own, dialogue=noise.disturb(rng, own.dialogue)) if noisy else own
