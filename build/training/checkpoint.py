"""A checkpoint made from another: the same files, other weights.

Configuration and tokenizer are copied byte for byte, and the weights go into files of the same names with the same tensors in them, in the
same types: whatever could read the one can read the other, whichever version of transformers did the training.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from build import manifest
from build.download import HASHES

REPORT = "training.json"
NOT_COPIED = {HASHES, REPORT, manifest.NAME}


def write(base: Path, names: list[str], out: Path, weight: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Write the files `names` of `base` to `out`, each tensor as `weight` makes it from its name and former self."""
    for name in sorted(set(names) - NOT_COPIED):
        if name.endswith(".safetensors"):
            with safe_open(base / name, framework="pt") as source:
                tensors = {key: weight(key, source.get_tensor(key)).contiguous() for key in source.keys()}  # noqa: SIM118 (not a dict)
                save_file(tensors, out / name, metadata=source.metadata())
        else:
            shutil.copyfile(base / name, out / name)


def write_hashes(folder: Path) -> None:
    """Write SHA256SUMS of everything that is there."""
    files = sorted(path for path in folder.iterdir() if path.name != HASHES)
    (folder / HASHES).write_text("".join(f"{manifest.sha256_of(path)}  {path.name}\n" for path in files))
