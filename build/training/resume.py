"""The state of an unfinished training: one file, written whole or not at all.

A state belongs to what was being made: it is refused for anything else. What is in it is the caller's business, as long as it is numbers,
texts, tensors and containers of them: nothing in the file is ever run.
"""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from build.errors import SettingError

Identity = Mapping[str, str | int | float | None]
"""What is being made: settings, and hashes of inputs."""


def save(path: Path, identity: Identity, state: Mapping[str, Any]) -> None:
    """Put the state in the place of an older one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        torch.save({"identity": dict(identity), "state": dict(state)}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def load(path: Path, identity: Identity) -> dict[str, Any] | None:
    """The state that was saved, or None if there is none.

    Raises:
        SettingError: it was saved while something else was being made, or it is damaged; the message names what differs.
    """
    if not path.is_file():
        return None
    anew = f"or delete {path} to begin anew"
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found, state = dict(saved["identity"]), dict(saved["state"])
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise SettingError(f"the state of an unfinished training cannot be read ({type(error).__name__}): restore it, {anew}") from error
    differences = [
        f"{name} was {found.get(name)}, now it is {identity.get(name)}"
        for name in dict.fromkeys([*found, *identity])
        if found.get(name) != identity.get(name)
    ]
    if differences:
        raise SettingError(f"an unfinished training was made of other things: {'; '.join(differences)}. Go on with those, {anew}")
    return state
