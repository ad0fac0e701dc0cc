"""The digest of NVIDIA's image: asked of docker, written once it is known to be one, and never kept for another image.

docker is stood in for by a script; what it prints follows the documentation of `docker buildx imagetools inspect`.
"""

import json
import re
from pathlib import Path

import pytest

from build import lock_images
from build.errors import SourceError
from build.lock_images import VARIABLE
from tests.support.machine import Commands

IMAGE = "registry.example/pika:25.10"
DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Commands(folder)


def docker_says(commands: Commands, digest: object) -> None:
    manifest = json.dumps({"schemaVersion": 2, "digest": digest, "manifests": [{"digest": f"sha256:{'c' * 64}"}]})
    commands.installed("docker", f"printf '%s\\n' '{manifest}'")


def test_the_digest_of_the_tag_is_written_and_read_again(commands: Commands, tmp_path: Path) -> None:
    docker_says(commands, DIGEST)
    lock = tmp_path / "images.lock"
    assert lock_images.locked(IMAGE, lock) is None
    lock_images.lock({VARIABLE: IMAGE}, lock)
    assert lock_images.locked(IMAGE, lock) == f"{IMAGE}@{DIGEST}"
    assert commands.asked() == [f"docker buildx imagetools inspect --format {{{{json .Manifest}}}} {IMAGE}"]


def test_compose_can_read_the_file_as_its_environment(commands: Commands, tmp_path: Path) -> None:
    docker_says(commands, DIGEST)
    lock_images.lock({VARIABLE: IMAGE}, tmp_path / "images.lock")
    lines = [line for line in (tmp_path / "images.lock").read_text().splitlines() if not line.startswith("#")]
    assert lines == [f"PIKA_BASE_IMAGE={IMAGE}@{DIGEST}"]


def test_a_tag_that_was_moved_is_told(commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "images.lock"
    docker_says(commands, DIGEST)
    lock_images.lock({VARIABLE: IMAGE}, lock)
    lock_images.lock({VARIABLE: IMAGE}, lock)
    assert "has been moved" not in capsys.readouterr().out
    docker_says(commands, OTHER)
    lock_images.lock({VARIABLE: IMAGE}, lock)
    assert f"it was {IMAGE}@{DIGEST}: the tag has been moved" in capsys.readouterr().out
    assert lock_images.locked(IMAGE, lock) == f"{IMAGE}@{OTHER}"


@pytest.mark.parametrize("other", [IMAGE.replace(".10", ".11"), IMAGE.replace(".10", "x10"), f"{IMAGE}-py3"])
def test_a_digest_is_not_taken_for_that_of_another_image(commands: Commands, tmp_path: Path, other: str) -> None:
    docker_says(commands, DIGEST)
    lock_images.lock({VARIABLE: other}, tmp_path / "images.lock")
    assert lock_images.locked(IMAGE, tmp_path / "images.lock") is None


def test_an_image_whose_registry_is_silent_keeps_its_digest_and_the_others_are_asked(commands: Commands, tmp_path: Path) -> None:
    silent, lock = "registry.elsewhere/watch:1", tmp_path / "images.lock"
    images = {VARIABLE: IMAGE, "PIKA_WATCH_IMAGE": silent, "PIKA_NEW_IMAGE": f"{silent}0"}
    docker_says(commands, DIGEST)
    lock_images.lock({"PIKA_WATCH_IMAGE": silent}, lock)
    manifest = json.dumps({"digest": OTHER})
    commands.installed("docker", f"case \"$*\" in *elsewhere*) echo 'no such host' >&2; exit 1 ;; esac; printf '%s\\n' '{manifest}'")
    with pytest.raises(SourceError, match=r"(?s)registry\.elsewhere/watch:1: .*no such host.*registry\.elsewhere/watch:10: "):
        lock_images.lock(images, lock)
    assert (lock_images.locked(IMAGE, lock), lock_images.locked(silent, lock)) == (f"{IMAGE}@{OTHER}", f"{silent}@{DIGEST}")
    assert lock_images.locked(f"{silent}0", lock) is None


@pytest.mark.parametrize("digest", [None, "", "sha256:12", f"md5:{'a' * 64}", f"{DIGEST}\nX=1", 7])
def test_what_is_no_digest_is_not_written(commands: Commands, tmp_path: Path, digest: object) -> None:
    docker_says(commands, digest)
    with pytest.raises(SourceError, match=rf"named no digest for {IMAGE}"):
        lock_images.lock({VARIABLE: IMAGE}, tmp_path / "images.lock")
    assert not (tmp_path / "images.lock").exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "docker is not installed"),
        ("echo 'docker: unknown command: docker buildx' >&2; exit 1", "unknown command: docker buildx"),
        ("echo 'ERROR: failed to do request: no such host' >&2; exit 1", "no such host"),
    ],
)
def test_a_docker_that_cannot_tell_leaves_the_old_digest(commands: Commands, tmp_path: Path, script: str | None, words: str) -> None:
    docker_says(commands, DIGEST)
    lock_images.lock({VARIABLE: IMAGE}, tmp_path / "images.lock")
    (commands.folder / "docker").unlink()
    if script:
        commands.installed("docker", script)
    with pytest.raises(SourceError) as caught:
        lock_images.lock({VARIABLE: IMAGE}, tmp_path / "images.lock")
    assert words in str(caught.value)
    assert "docker-buildx-plugin" in str(caught.value)
    assert lock_images.locked(IMAGE, tmp_path / "images.lock") == f"{IMAGE}@{DIGEST}"


def test_compose_finds_the_file_and_the_variables() -> None:
    link = lock_images.LOCK.with_name(".env")
    assert (link.is_symlink(), link.readlink()) == (True, Path(lock_images.LOCK.name))
    compose = link.with_name("compose.yaml").read_text()
    assert set(re.findall(r"\$\{(PIKA_\w+_IMAGE)", compose)) == lock_images.images().keys()
    assert f"BASE_IMAGE: ${{{VARIABLE}:?" in compose


def test_the_digests_that_are_committed_are_of_the_images_in_use() -> None:
    lines = lock_images.LOCK.read_text().splitlines() if lock_images.LOCK.exists() else []
    pinned = dict(line.split("=", 1) for line in lines if line.startswith("PIKA_"))
    assert pinned == {variable: pin for variable, image in lock_images.images().items() if (pin := lock_images.locked(image))}
