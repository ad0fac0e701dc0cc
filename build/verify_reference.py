"""The logits that an engine should give, from the dequantized weights of the checkpoint that it was built from.

A reference belongs to one AWQ checkpoint and one set of prompts, by their hashes. The one for the embedded model is stored with the code,
`verify_data/pika-tiny.json`; where that does not fit, as for every other model, the reference is computed once, and stored beside the
checkpoint as `reference/`. To store another one with the code, copy the file from there.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from build import manifest
from build.errors import ManifestError
from build.settings import Model
from build.verify_prompts import DATA, Prompts

NAME = "reference.json"
TOOLS = ("torch", "transformers", "autoawq", "safetensors")
_DECIMALS = 4
"""A logit of a 4-bit model is not the same to so many digits on two machines."""


@dataclass(frozen=True)
class Reference:
    """Logits of the code tokens after each prompt.

    Attributes:
        awq: Content hash of the AWQ checkpoint.
        prompts: `Prompts.sha256`.
        logits: float32 [n_prompts, n_codes], in the order of the code table.
        path: Where it is stored.
    """

    awq: str
    prompts: str
    logits: npt.NDArray[np.float32]
    path: Path

    @property
    def spread(self) -> float:
        """Standard deviation of all the logits: the unit of differences."""
        return float(self.logits.std())


def find_or_make(model: Model, prompts: Prompts) -> Reference:
    """The reference for the model's AWQ checkpoint as it is now.

    Raises:
        ManifestError: there is no AWQ checkpoint, or a stored reference is damaged.
        CheckpointError: the checkpoint is not one that can be read.
    """
    awq = manifest.read(model.folder / "awq")
    beside = model.folder / "reference"
    candidates = [DATA / f"{model.name}.json", *([beside / NAME] if manifest.is_valid(beside) else [])]
    for path in candidates:
        if path.is_file() and (found := load(path)) and (found.awq, found.prompts) == (awq.content_hash, prompts.sha256):
            return found
    return _make(model, awq.content_hash, prompts)


def load(path: Path) -> Reference:
    """A stored reference.

    Raises:
        ManifestError: the file is damaged.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        logits = np.array(raw["logits"], dtype=np.float32)
        return Reference(raw["awq"], raw["prompts"], logits, path)
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path} is no stored reference ({error!r}): delete it, it is made again") from error


def _make(model: Model, awq_hash: str, prompts: Prompts) -> Reference:
    from build.verify_network import last_logits  # here, because torch is slow to import and most runs find a reference

    print(
        f"there is no reference for this checkpoint of {model.name} and these prompts yet: computing one from its dequantized weights, "
        "float32 on the CPU. That is done once.",
        file=sys.stderr,
        flush=True,
    )
    final = model.folder / "reference"
    inputs = {"awq": awq_hash, "prompts": prompts.sha256}
    with manifest.new_folder(final, "reference", inputs, {}, manifest.versions(*TOOLS)) as draft:
        logits = last_logits(model.folder / "awq", prompts.prompt.prefix_ids, prompts.turns, prompts.codes.token_ids)
        _save({**inputs, "logits": [[round(float(logit), _DECIMALS) for logit in row] for row in logits]}, draft.path / NAME)
    return load(final / NAME)


def _save(content: dict[str, Any], path: Path) -> None:
    """As JSON, one prompt a line."""
    rows = ",\n".join(json.dumps(row) for row in content["logits"])
    head = json.dumps({name: value for name, value in content.items() if name != "logits"}).removesuffix("}")
    path.write_text(f'{head}, "logits": [\n{rows}\n]}}\n', encoding="utf-8")
