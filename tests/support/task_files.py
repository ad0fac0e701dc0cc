"""Task files that differ from the served one in one thing."""

from pathlib import Path

from build import settings


def changed(folder: Path, name: str, old: str, new: str) -> Path:
    """The task of the embedded model with `new` in the place of `old`, which occurs in it."""
    text = settings.model("pika-tiny").task_file.read_text(encoding="utf-8")
    assert old in text
    path = folder / name
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path
