"""Files written whole or not at all: a reader never sees half a report or half a picture."""

import importlib
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` in the place of `path` at once; if that fails, an older file stays as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON, indented for people."""
    write_bytes(path, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def cannot_write(out: Path | None, source: Path, folder: Path | None, drawing_module: str) -> str | None:
    """Return what would keep results from being written, or None; asked before anything is sent.

    Args:
        out: The report file, if there is to be one.
        source: The file with the dialogues, which must not be overwritten.
        folder: Where pictures go, if there are to be any; made if it is not there.
        drawing_module: The module that draws them, which needs matplotlib.
    """
    if out is not None and (not out.parent.is_dir() or out.is_dir() or out.resolve() == source.resolve()):
        return f"--json {out} cannot be written: give a new file in an existing folder"
    if folder is None:
        return None
    try:
        importlib.import_module(drawing_module)
        folder.mkdir(exist_ok=True)
    except ImportError as error:
        return f"--pictures needs matplotlib ({error}): pip install 'pika-tagger[report]'"
    except OSError as error:
        return f"--pictures {folder} cannot be made ({error.strerror}): give a folder, or a new one in an existing folder"
    return None
