"""Manifests: how a stage says "done", and how the next one knows.

A stage works in a private folder beside its own. When it has finished, every file is hashed, `manifest.json` is written last, and the
folder is renamed into place: a reader sees the old result or the new one, never a half. A folder without a valid manifest does not exist.
One process at a time works on a folder; a second one waits, because the first may be an orphan of an interrupted run.

The fields of a manifest are those of `Manifest`; adding one means raising SCHEMA only if readers of the old form would be misled.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from build.errors import ManifestError

SCHEMA = 1
NAME = "manifest.json"
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class FileRecord:
    """One file of a stage's folder: its size and the hex SHA-256 of its content."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a stage made, from what, how and with which tools."""

    stage: str
    inputs: Mapping[str, str]
    """Name of each input -> `content_hash` of its manifest, or the SHA-256 of a file."""
    settings: Mapping[str, Any]
    tools: Mapping[str, str]
    """Distribution name -> version, of everything whose change could change the output."""
    files: Mapping[str, FileRecord]
    finished_utc: str
    duration_s: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the stage found out or measured, for people and for later stages."""

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 over the files alone: equal content, equal hash, whenever and wherever it was made."""
        listing = json.dumps({name: record.sha256 for name, record in sorted(self.files.items())})
        return hashlib.sha256(listing.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together, without the manifest."""
        return sum(record.size_bytes for record in self.files.values())


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions of Python distributions; "not installed" where there is none."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def read(folder: Path) -> Manifest:
    """The manifest of a finished stage.

    Raises:
        ManifestError: there is none, it cannot be read, or a file is missing or has another size than it says. Contents are not
            hashed again: that would read gigabytes each time. `verify_contents` does.
    """
    path = folder / NAME
    try:
        raw = json.loads(path.read_text())
        if raw["schema"] != SCHEMA:
            raise ManifestError(f"{path} has schema {raw['schema']}, this version writes {SCHEMA}: build the stage again")
        files = {name: FileRecord(**record) for name, record in raw.pop("files").items()}
        raw.pop("schema")
        manifest = Manifest(files=files, **raw)
    except FileNotFoundError:
        raise ManifestError(f"{folder} has no {NAME}: the stage that makes it has not finished") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path} is damaged ({error}): delete it and build the stage again") from error
    for name, record in files.items():
        try:
            size_bytes = (folder / name).stat().st_size
        except FileNotFoundError:
            raise ManifestError(f"{folder / name} is missing, {NAME} lists it: build the stage again") from None
        if size_bytes != record.size_bytes:
            raise ManifestError(f"{folder / name} has {size_bytes} bytes, {NAME} says {record.size_bytes}: build the stage again")
    return manifest


def setting(folder: Path, name: str) -> str | None:
    """What a stage was told when it made a folder, as far as it can be read: the folder itself may be damaged since, and be made again."""
    try:
        value = json.loads((folder / NAME).read_text())["settings"].get(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return value if isinstance(value, str) else None


def is_valid(folder: Path) -> bool:
    """Whether `read` would succeed."""
    try:
        read(folder)
    except ManifestError:
        return False
    return True


def verify_contents(folder: Path) -> Manifest:
    """Like `read`, but hashes every file as well.

    Raises:
        ManifestError: as `read`, or a file's content is not what the manifest says.
    """
    manifest = read(folder)
    for name, record in manifest.files.items():
        if sha256_of(folder / name) != record.sha256:
            raise ManifestError(f"{folder / name} is not the file that {NAME} describes (its SHA-256 differs): build the stage again")
    return manifest


@dataclass
class Draft:
    """A stage's folder in the making; the stage fills `path` and may add `facts`."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def new_folder(
    final: Path,
    stage: str,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    tools: Mapping[str, str],
) -> Iterator[Draft]:
    """Make `final` as a whole or not at all.

    Yields:
        a draft whose `path` is an empty private folder; what the caller leaves there becomes `final`, with a manifest.
        If the body raises, the draft is removed and an older `final` stays as it was.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with _only_worker(final):
        for stale in final.parent.glob(f".{final.name}.partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
        # A name of its own: a tool that outlived an interrupted run may still be writing to the old one.
        draft = Draft(final.with_name(f".{final.name}.partial-{os.getpid()}"))
        draft.path.mkdir()
        started = time.monotonic()
        try:
            yield draft
            _save(_describe(draft.path, stage, inputs, settings, tools, started, draft.facts), draft.path)
        except BaseException:
            shutil.rmtree(draft.path, ignore_errors=True)
            raise
        _replace(final, draft.path)


def seal(folder: Path, stage: str, inputs: Mapping[str, str], settings: Mapping[str, Any], names: list[str]) -> Manifest:
    """Write the manifest of a folder that was not made by `new_folder`: only the named files count.

    A manifest that says the same already stays as it is, so that nothing after it is built again.
    """
    with _only_worker(folder):
        new = _describe(folder, stage, inputs, settings, {}, time.monotonic(), {}, names)
        old = read(folder) if is_valid(folder) else None
        if old and (old.content_hash, old.inputs, old.settings) == (new.content_hash, new.inputs, new.settings):
            return old
        _save(new, folder)
    return new


@contextmanager
def _only_worker(final: Path) -> Iterator[None]:
    with final.with_name(f".{final.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is making {final}; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _describe(
    folder: Path,
    stage: str,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    tools: Mapping[str, str],
    started: float,
    facts: Mapping[str, Any],
    names: list[str] | None = None,
) -> Manifest:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME) if names is None else [folder / name for name in names]
    return Manifest(
        stage=stage,
        inputs=dict(inputs),
        settings=dict(settings),
        tools=dict(tools),
        files={str(p.relative_to(folder)): FileRecord(p.stat().st_size, sha256_of(p)) for p in paths},
        finished_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        duration_s=round(time.monotonic() - started, 3),
        facts=dict(facts),
    )


def _save(manifest: Manifest, folder: Path) -> None:
    partial = folder / f".{NAME}.partial"
    with partial.open("w") as stream:
        json.dump({"schema": SCHEMA, **asdict(manifest)}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(folder / NAME)


def _replace(final: Path, draft: Path) -> None:
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    draft.rename(final)
    shutil.rmtree(old, ignore_errors=True)
