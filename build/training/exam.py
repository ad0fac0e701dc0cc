"""What a network that is being finetuned is asked at every validation.

Two sets: dialogues made of held-out frames, and the own dialogues that were kept back. Figures are given for each; choices are made on both
together.
"""

import random
from dataclasses import dataclass
from typing import Any

from build.training import packing
from build.training.batches import Batches
from build.training.dialogues import Labelled
from build.training.evaluate import accuracy, best_threshold
from build.training.learner import Learner
from build.training.mixture import Mixture
from one_pass import CodeTable, Prompt

SEED = 7
FIGURES = ("emotion", "celebrate", "false_celebrations")


@dataclass(frozen=True)
class Result:
    """What came out: accuracy on each set, and P(yes) from which celebrating is cheapest on both together."""

    corpus: dict[str, Any]
    own: dict[str, Any] | None
    together: dict[str, Any]
    threshold: float

    @property
    def score(self) -> float:
        """The higher, the better."""
        return float(self.together["emotion"] + self.together["celebrate"])

    @property
    def figures(self) -> dict[str, Any]:
        """Accuracy on each set, in short."""
        sets = {"corpus": self.corpus, "own": self.own} if self.own else {"corpus": self.corpus}
        return {f"{name}_{figure}": values[figure] for name, values in sets.items() for figure in FIGURES}


class Exam:
    """The same questions every time."""

    def __init__(self, corpus: Mixture, size: int, batches: Batches, prompt: Prompt, codes: CodeTable, device: str) -> None:
        """Draw `size` dialogues of held-out frames."""
        rng = random.Random(SEED)
        self._made = [corpus.sample(rng, "validation", noisy=False) for _ in range(size)]
        self._own = corpus.held_out
        self._batches, self._prompt, self._codes, self._device = batches, prompt, codes, device

    def take(self, learner: Learner) -> Result:
        """Ask everything once."""
        asked = self._made + self._own
        tags = packing.predict(learner.model, self._batches, self._prompt, self._codes, asked, self._device)

        def share(examples: list[Labelled], first: int) -> dict[str, Any]:
            return {"dialogues": len(examples), **accuracy(examples, tags[first : first + len(examples)], self._prompt.task)}

        own = share(self._own, len(self._made)) if self._own else None
        return Result(share(self._made, 0), own, share(asked, 0), best_threshold(asked, tags))
