"""Where a path is that need not exist yet. Only the standard library is used."""

from pathlib import Path


def existing_part(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists: it is on the disk that the path will be on."""
    path = path.absolute()
    return next(part for part in (path, *path.parents) if part.exists())
