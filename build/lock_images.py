"""Task `lock_images`: the digests that the pinned images have in their registries, written to docker/images.lock.

A tag can be moved to another image, a digest cannot. docker/compose.yaml takes what the file says and nothing else; it finds the
file under the name docker/.env. The registry is asked by docker itself, which downloads nothing for that. Nobody has run it with a real
docker yet: after `doit lock_images`, `docker buildx imagetools inspect` with the reference from the file must show the same digest.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from build import ROOT, settings
from build.ask import ask
from build.errors import SourceError

LOCK = ROOT / "docker" / "images.lock"
VARIABLE = "PIKA_BASE_IMAGE"
"""As docker/compose.yaml calls the image that ours is built on."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NOTE = "# The images that docker/ takes. Written by `doit lock_images`; commit it."


def images() -> dict[str, str]:
    """Variable of docker/compose.yaml -> image as NAME:TAG: NVIDIA's, and those of the profile `monitoring`."""
    watching = settings.monitoring()
    return {VARIABLE: settings.container().image, "PIKA_PROMETHEUS_IMAGE": watching.prometheus, "PIKA_GRAFANA_IMAGE": watching.grafana}


def command(image: str) -> tuple[str, ...]:
    """The command line that asks the registry; it prints a JSON object whose `digest` is that of the tag, for all platforms together."""
    return ("docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", image)


def lock(wanted: Mapping[str, str], file: Path = LOCK) -> None:
    """Write the digest of each image, as `images` has them, and say if it is another one than before.

    Raises:
        SourceError: docker or a registry did not tell; the message has what they said. What was known of that image stays in the file.
    """
    pinned: dict[str, str] = {}
    problems: list[str] = []
    for variable, image in wanted.items():
        before = locked(image, file)
        try:
            pinned[variable] = f"{image}@{_digest(image)}"
        except SourceError as error:
            problems.append(str(error))
            if before:
                pinned[variable] = before
            continue
        print(f"{file}: {pinned[variable]}", flush=True)
        if before not in (None, pinned[variable]):
            print(f"it was {before}: the tag has been moved since. Build the image and the engines again.", flush=True)
    if pinned:
        file.write_text("\n".join([_NOTE, *(f"{variable}={pin}" for variable, pin in pinned.items())]) + "\n", encoding="utf-8")
    if problems:
        raise SourceError("\n".join(problems))


def locked(image: str, file: Path = LOCK) -> str | None:
    """`image` with its digest, as NAME:TAG@DIGEST; None if the file is not there, or is about another image."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    wanted = re.compile(rf"\w+={re.escape(image)}@{_DIGEST.pattern}")
    return next((line.partition("=")[2] for line in lines if wanted.fullmatch(line)), None)


def _digest(image: str) -> str:
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
    return digest
