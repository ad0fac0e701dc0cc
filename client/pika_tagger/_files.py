"""Files written whole or not at all: a reader never sees half a report or half a picture."""

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
