"""Task `lock_images`: the digest that NVIDIA's image has in its registry, written to docker/images.lock.

A tag can be moved to another image, a digest cannot. docker/compose.yaml builds on what the file says and on nothing else; it finds the
file under the name docker/.env. The registry is asked by docker itself, which downloads nothing for that. Nobody has run it with a real
docker yet: after `doit lock_images`, `docker buildx imagetools inspect` with the reference from the file must show the same digest.
"""

import json
import re
from pathlib import Path

from build import ROOT
from build.ask import ask
from build.errors import SourceError

LOCK = ROOT / "docker" / "images.lock"
VARIABLE = "PIKA_BASE_IMAGE"
"""As docker/compose.yaml calls the image that it builds on."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NOTE = "# The image that docker/ builds on. Written by `doit lock_images`; commit it."


def command(image: str) -> tuple[str, ...]:
    """The command line that asks the registry; it prints a JSON object whose `digest` is that of the tag, for all platforms together."""
    return ("docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", image)


def lock(image: str, file: Path = LOCK) -> None:
    """Write the digest of `image`, which is NAME:TAG, and say if it is another one than before.

    Raises:
        SourceError: docker or the registry did not tell; the message has what they said, and the file stays as it was.
    """
    answer = ask(*command(image))
    if not answer.ok:
        raise SourceError(
            f"the registry could not be asked for the digest of {image}: {answer.said}. It takes docker with its plugin buildx "
            "(package docker-buildx-plugin, or docker-buildx on Ubuntu) and a connection to the registry"
        )
    try:
        digest = json.loads(answer.output)["digest"]
    except (ValueError, KeyError, TypeError):
        digest = None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise SourceError(f"docker named no digest for {image} but answered {answer.output[:200]!r}: update docker's plugin buildx")
    before, now = locked(image, file), f"{image}@{digest}"
    file.write_text(f"{_NOTE}\n{VARIABLE}={now}\n", encoding="utf-8")
    print(f"{file}: {now}", flush=True)
    if before not in (None, now):
        print(f"it was {before}: the tag has been moved since. Build the image and the engines again.", flush=True)


def locked(image: str, file: Path = LOCK) -> str | None:
    """`image` with its digest, as NAME:TAG@DIGEST; None if the file is not there, or is about another image."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    wanted = re.compile(re.escape(f"{VARIABLE}={image}@") + _DIGEST.pattern)
    return next((line.partition("=")[2] for line in lines if wanted.fullmatch(line)), None)
