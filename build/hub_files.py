"""Files of a Hugging Face repository at one commit, in the hub's own cache, each checked against the hash that the hub has for it.

`huggingface_hub` fetches, resumes and reads HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE; what it does not do is done here: it never
hashes what it fetched, it looks for room one file at a time, and its messages do not say what to do in this pipeline. Which files are
taken, and what a checkpoint needs, is said in `build.download`.

A file of a repository is known by one id: the SHA-256 of a large one (LFS), git's SHA-1 of a small one. The cache keeps it under that name
and links to it, so what was cached can be checked without a network.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from build import manifest
from build.disk import existing_part
from build.errors import SourceError
from build.settings import Hub

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256_DIGITS = 64


@dataclass(frozen=True)
class HubFile:
    """A file as the hub describes it."""

    name: str
    size_bytes: int
    content_id: str


def fetch(hub: Hub, patterns: Sequence[str], copy_to: Path) -> Path:
    """Bring the files of a commit into the cache.

    Args:
        hub: repository and commit.
        patterns: which of the files at its top are wanted.
        copy_to: where they go from the cache: room is needed there as well, if it is on another disk.

    Returns:
        the cache's folder for that commit; every wanted file in it has the content that the hub has.

    Raises:
        SourceError: something is not there, not allowed, not reachable or damaged, or there is no room; the message says what to do.
    """
    if not _COMMIT.fullmatch(hub.revision):
        raise SourceError(f"revision {hub.revision} of {hub.repo} is not a commit: give its 40 hex digits, a branch may change")
    # Read when huggingface_hub is first imported. Its other protocol starts an interrupted file anew; plain HTTP goes on where it stopped.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return _cached(hub, patterns)
    files = _listing(hub, patterns)
    _check_room(hub, files, copy_to)
    folder = _snapshot(hub, files)
    for file in files:
        if not (folder / file.name).is_file():
            raise SourceError(f"{hub.repo} was not fetched as a whole, {file.name} is missing: run the task again to resume")
        _check_content(folder / file.name, file.content_id)
    return folder


def require_room(needs: Iterable[tuple[Path, int]]) -> None:
    """Whether each folder's disk has room for so many bytes; folders need not exist yet, and those on one disk share its room.

    Raises:
        SourceError: one has not; the message names what is needed and what is free.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, needed_bytes in needs:
        first, before_bytes = disks.get(disk_of(folder), (existing_part(folder), 0))
        disks[disk_of(folder)] = first, before_bytes + needed_bytes
    for folder, needed_bytes in disks.values():
        if (free_bytes := shutil.disk_usage(folder).free) < needed_bytes:
            raise SourceError(
                f"the disk of {folder} has {free_bytes / 1e9:.2f} GB free, {needed_bytes / 1e9:.2f} GB are needed: free some, "
                "or have the checkout or the hub's cache (HF_HOME) on another disk"
            )


def disk_of(path: Path) -> int:
    """The number of the disk (file system) that a path is on, or will be."""
    return existing_part(path).stat().st_dev


def _listing(hub: Hub, patterns: Sequence[str]) -> list[HubFile]:
    """What the hub has at that commit, as far as it is wanted."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(hub.repo, revision=hub.revision, files_metadata=True)
    except OSError as error:
        raise _explained(error, hub) from error
    if info.sha != hub.revision:
        raise SourceError(f"asked for {hub.repo} at {hub.revision}, the hub answered with {info.sha}: give the commit itself")
    files = []
    for found in info.siblings or []:
        # Patterns match within a folder only: the name of a file in another would match "*.safetensors", too.
        if "/" in found.rfilename or not any(fnmatchcase(found.rfilename, pattern) for pattern in patterns):
            continue
        content_id = found.lfs.sha256 if found.lfs else found.blob_id
        if found.size is None or content_id is None:
            raise SourceError(f"the hub gives neither size nor hash of {found.rfilename} in {hub.repo}: copy it by hand, give source=DIR")
        files.append(HubFile(found.rfilename, found.size, content_id))
    if not files:
        raise SourceError(f"{hub.repo} at {hub.revision} has none of {', '.join(patterns)}: it is not a checkpoint in safetensors")
    return files


def _check_room(hub: Hub, files: list[HubFile], copy_to: Path) -> None:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    blobs = cache / repo_folder_name(repo_id=hub.repo, repo_type="model") / "blobs"
    whole_bytes = sum(file.size_bytes for file in files)
    left_bytes = sum(file.size_bytes - _present_bytes(blobs, file) for file in files)
    needs = [(cache, left_bytes)]
    if disk_of(cache) != disk_of(copy_to):
        needs.append((copy_to, whole_bytes))
    require_room(needs)
    print(
        f"fetching {hub.repo} at {hub.revision} from {constants.ENDPOINT}: {len(files)} files, {whole_bytes / 1e6:.1f} MB, "
        f"of which {left_bytes / 1e6:.1f} MB are not in {cache} yet",
        flush=True,
    )


def _present_bytes(blobs: Path, file: HubFile) -> int:
    for name in (file.content_id, f"{file.content_id}.incomplete"):
        if (blobs / name).is_file():
            return min((blobs / name).stat().st_size, file.size_bytes)
    return 0


def _snapshot(hub: Hub, files: list[HubFile]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub.repo, revision=hub.revision, allow_patterns=[file.name for file in files]))
    except OSError as error:
        raise _explained(error, hub) from error


def _cached(hub: Hub, patterns: Sequence[str]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    print(f"taking {hub.repo} at {hub.revision} from {constants.HF_HUB_CACHE}: HF_HUB_OFFLINE is set", flush=True)
    try:
        folder = Path(snapshot_download(hub.repo, revision=hub.revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise SourceError(
            f"HF_HUB_OFFLINE is set and {constants.HF_HUB_CACHE} does not hold {hub.repo} at {hub.revision}: unset it, "
            "set HF_HOME to the cache that holds it, or give source=DIR"
        ) from error
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if not path.is_symlink():
            raise SourceError(
                f"{path} is not a link into the hub's cache, so its content cannot be checked offline: unset HF_HUB_OFFLINE, "
                f"or give source={folder} if you trust it"
            )
        _check_content(path, path.readlink().name)
    return folder


def _check_content(path: Path, content_id: str) -> None:
    """Compare a file with its id; one that differs is taken out of the cache, or it would be found there again."""
    if (manifest.sha256_of(path) if len(content_id) == _SHA256_DIGITS else _git_sha1_of(path)) == content_id:
        return
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise SourceError(f"{path.name} is damaged: its hash is not {content_id}. It was removed from the cache; run the task again, online")


def _git_sha1_of(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _explained(error: OSError, hub: Hub) -> SourceError:
    """What went wrong at the hub, with what to do about it."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, RevisionNotFoundError):
        return SourceError(f"{hub.repo} has no revision {hub.revision} at {constants.ENDPOINT}: give the commit of one that it has")
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        token = "the token that was sent may not read it: set HF_TOKEN to one that may" if get_token() else "set HF_TOKEN: none was sent"
        return SourceError(
            f"{constants.ENDPOINT} does not give out {hub.repo} (HTTP {status}): it does not exist under that name, or it is private or "
            f"gated and {token}, after accepting the terms on its page if there are any"
        )
    return SourceError(
        f"{hub.repo} could not be fetched from {constants.ENDPOINT}: {error}\nRun the task again to resume, set HF_HUB_OFFLINE=1 if the "
        "cache holds it already, or copy the files here by hand and give source=DIR"
    )
