"""A model's files come from a hub whole, resumed and as the hub has them: real transfers, by huggingface_hub, over HTTP."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from build import ROOT, manifest
from build.errors import SourceError
from build.hub_files import require_room
from tests.support.checkout import CONFIG
from tests.support.hub_server import COMMIT, REPO, HubServer, running

CHUNK_BYTES = 10 * 1024 * 1024
"""What huggingface_hub writes at a time: less than that is lost when a connection ends."""
WEIGHTS = "model.safetensors"
# The environment of huggingface_hub is read when it is imported, so each download is a process of its own.
PROGRAM = """
import sys
import threading
from pathlib import Path
from build import download, settings
from build.errors import SourceError
settings.CHECKPOINTS = Path(sys.argv[1])
quantization = settings.Quantization(calibration_samples=1, seed=0, search_clipping=False, duo_scaling=True)
model = settings.Model(name="small", about="", task="pika_mood", quantize=quantization, hub=settings.Hub(sys.argv[2], sys.argv[3]))
try:
    download.download(model, revision=sys.argv[4] if len(sys.argv) > 4 else None)
except SourceError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    """A repository with weights of two and a half chunks, and with much that is not wanted."""
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{} ",
        "tokenizer.model": b"pieces",
        WEIGHTS: random.Random(1).randbytes(CHUNK_BYTES * 5 // 2),
        "modeling_phi3.py": b"raise SystemExit",
        "pytorch_model.bin": b"a pickle",
        "README.md": b"read me",
        "onnx/model.safetensors": b"of another folder",
    }


TAKEN = {"config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", WEIGHTS}


@pytest.fixture
def hub(content: dict[str, bytes]) -> Iterator[HubServer]:
    with running(HubServer(dict(content))) as server:
        yield server


class Box:
    """A machine with a cache and a checkout."""

    def __init__(self, folder: Path, hub: HubServer) -> None:
        self.hf = folder / "checkpoints" / "small" / "hf"
        self.cache = folder / "home" / "hub"
        self.hub = hub
        self._folder = folder

    def start(self, *arguments: str, repo: str = REPO, commit: str = COMMIT, **environment: str) -> "subprocess.Popen[str]":
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING")) and "proxy" not in name.lower()
        }
        given = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self._folder / "home"), **environment}
        command = [sys.executable, "-c", PROGRAM, str(self._folder / "checkpoints"), repo, commit, *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=kept | given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def download(self, *arguments: str, **options: str) -> str:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert manifest.verify_contents(self.hf).settings["origin"] == f"{REPO}@{COMMIT}"
        return out

    def refused(self, *arguments: str, **options: str) -> str:
        process = self.start(*arguments, **options)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1, err
        assert not self.hf.exists()
        assert not list(self.hf.parent.glob(".hf.partial*"))
        return err.rpartition("refused: ")[2].strip()

    def has_it(self) -> bool:
        return {path.name: path.read_bytes() for path in self.hf.iterdir() if path.name != manifest.NAME} == {
            name: self.hub.files[name] for name in TAKEN
        }


@pytest.fixture
def box(tmp_path: Path, hub: HubServer) -> Box:
    return Box(tmp_path, hub)


def test_what_a_model_needs_is_fetched_once_and_nothing_else(box: Box, hub: HubServer) -> None:
    out = box.download()
    assert box.has_it()
    assert f"fetching {REPO} at {COMMIT} from {hub.url}: 5 files, 26.2 MB, of which 26.2 MB are not in {box.cache} yet\n" in out
    assert {name for name in hub.files if hub.transfers(name)} == TAKEN
    assert all(len(hub.transfers(name)) == 1 for name in TAKEN)
    assert hub.transfers(WEIGHTS)[0].server == "content"
    assert not any("/nothing/" in one.path for one in hub.asked), "asked for the protocol that cannot resume"
    assert manifest.read(box.hf).files[WEIGHTS].sha256 == manifest.sha256_of(box.hf / WEIGHTS)
    hub.asked.clear()
    assert "of which 0.0 MB are not in" in box.download()
    assert not any(hub.transfers(name) for name in hub.files)


def test_an_interrupted_transfer_goes_on_where_it_stopped(box: Box, hub: HubServer) -> None:
    hub.cut_after_bytes[WEIGHTS] = CHUNK_BYTES
    message = box.refused()
    assert f"{REPO} could not be fetched from {hub.url}: " in message
    assert "Run the task again to resume" in message
    assert "of which 15.7 MB are not in" in box.download()
    assert box.has_it()
    first, second = hub.transfers(WEIGHTS)
    assert (first.range, first.sent_bytes) == (None, CHUNK_BYTES)
    assert (second.range, second.sent_bytes) == (f"bytes={CHUNK_BYTES}-", len(hub.files[WEIGHTS]) - CHUNK_BYTES)


def test_a_killed_download_goes_on_where_it_stopped(box: Box, hub: HubServer) -> None:
    hub.stall_after_bytes[WEIGHTS] = CHUNK_BYTES * 2
    process = box.start()
    assert hub.stalled.wait(60)
    wait_for_bytes(box, CHUNK_BYTES)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not box.hf.exists()
    box.download()
    assert box.has_it()
    second = hub.transfers(WEIGHTS)[1]
    assert second.range is not None
    start_bytes = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert CHUNK_BYTES <= start_bytes <= CHUNK_BYTES * 2


def wait_for_bytes(box: Box, size_bytes: int) -> None:
    """What was sent is written a moment later."""
    pause = threading.Event()
    for _ in range(600):
        if any(path.stat().st_size >= size_bytes for path in box.cache.glob("models--*/blobs/*.incomplete")):
            return
        pause.wait(0.1)
    pytest.fail("nothing was written")


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_with_the_wrong_hash_is_refused_and_fetched_anew(box: Box, hub: HubServer, name: str) -> None:
    hub.files["config.json"] = hub.files["config.json"] + b"\n"  # its last byte may turn and it is still JSON
    hub.files[WEIGHTS] = hub.files[WEIGHTS][:1000]
    hub.damaged.add(name)
    assert box.refused().startswith(f"{name} is damaged: its hash is not ")
    hub.damaged.clear()
    box.download()
    assert box.has_it()
    assert len(hub.transfers(name)) == 2
    assert len(hub.transfers("tokenizer.json")) == 1


def test_what_is_not_given_to_anyone_asks_for_a_token(box: Box, hub: HubServer) -> None:
    hub.token = "hf_right"
    message = box.refused()
    assert message.startswith(f"{hub.url} does not give out {REPO} (HTTP 401): ")
    assert "gated and set HF_TOKEN: none was sent" in message
    message = box.refused(HF_TOKEN="hf_wrong")
    assert "the token that was sent may not read it: set HF_TOKEN to one that may" in message
    assert "hf_wrong" not in message
    assert not box.cache.exists()


def test_the_token_goes_to_the_hub_and_nowhere_else(box: Box, hub: HubServer) -> None:
    hub.token = "hf_right"
    box.download(HF_TOKEN="hf_right")
    assert box.has_it()
    assert {one.authorization for one in hub.asked if one.server == "hub"} == {"Bearer hf_right"}
    assert {one.authorization for one in hub.asked if one.server == "content"} == {None}


def test_a_revision_that_does_not_exist_is_refused(box: Box, hub: HubServer) -> None:
    other = "f" * 40
    assert box.refused(commit=other) == f"{REPO} has no revision {other} at {hub.url}: give the commit of one that it has"
    assert box.refused(other) == f"{REPO} has no revision {other} at {hub.url}: give the commit of one that it has"


def test_another_revision_can_be_asked_for(box: Box) -> None:
    box.download(COMMIT, commit="f" * 40)
    assert box.has_it()
    assert manifest.setting(box.hf, "revision") == COMMIT


@pytest.mark.parametrize("revision", ["main", COMMIT[:7], COMMIT.upper()])
def test_a_revision_that_may_change_is_refused(box: Box, hub: HubServer, revision: str) -> None:
    assert box.refused(commit=revision) == f"revision {revision} of {REPO} is not a commit: give its 40 hex digits, a branch may change"
    assert hub.asked == []


def test_too_little_room_is_seen_before_anything_is_fetched(box: Box, hub: HubServer) -> None:
    hub.announced_bytes[WEIGHTS] = 10**15
    message = box.refused()
    assert " GB free, 1000000.00 GB are needed: free some, or have the checkout or the hub's cache (HF_HOME) on another disk" in message
    assert not any(hub.transfers(name) for name in hub.files)


def test_folders_on_one_disk_share_its_room(tmp_path: Path) -> None:
    free_bytes = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    require_room([(tmp_path / "not" / "there" / "yet", free_bytes * 6 // 10)])
    with pytest.raises(SourceError, match=r"^the disk of .* has \d+\.\d\d GB free, \d+\.\d\d GB are needed"):
        require_room([(tmp_path / "cache", free_bytes * 6 // 10), (tmp_path / "checkout", free_bytes * 6 // 10)])


def test_a_cache_that_cannot_be_written_is_refused(box: Box) -> None:
    box.cache.mkdir(parents=True)
    (box.cache / "models--me--mine").write_text("a file where a folder should be")
    message = box.refused()
    assert "models--me--mine" in message
    assert message.startswith(f"{REPO} could not be fetched from ")


def test_offline_the_cache_is_used_and_checked(box: Box, hub: HubServer) -> None:
    message = box.refused(HF_HUB_OFFLINE="1")
    assert message.startswith(f"HF_HUB_OFFLINE is set and {box.cache} does not hold {REPO} at {COMMIT}: unset it")
    box.download()
    hub.asked.clear()
    (box.hf / manifest.NAME).unlink()
    assert f"from {box.cache}: HF_HUB_OFFLINE is set\n" in box.download(HF_HUB_OFFLINE="1")
    assert box.has_it()
    assert hub.asked == []


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_offline_a_damaged_cache_is_refused(box: Box, name: str) -> None:
    box.download()
    (cached,) = box.cache.glob(f"models--*/snapshots/{COMMIT}/{name}")
    cached.resolve().write_bytes(b"{ }")
    shutil.rmtree(box.hf)
    assert box.refused(HF_HUB_OFFLINE="1").startswith(f"{name} is damaged: its hash is not ")
    cached.write_bytes(b"{}")
    assert box.refused(HF_HUB_OFFLINE="1").startswith(
        f"{cached} is not a link into the hub's cache, so its content cannot be checked offline"
    )


def test_a_repository_without_the_wanted_files_is_refused(box: Box, hub: HubServer) -> None:
    for name in TAKEN:
        del hub.files[name]
    assert box.refused().startswith(f"{REPO} at {COMMIT} has none of config.json, ")


def test_a_hub_that_cannot_be_reached_is_refused_with_ways_out(box: Box) -> None:
    message = box.refused(HF_ENDPOINT="http://127.0.0.1:9")
    assert message.startswith(f"{REPO} could not be fetched from http://127.0.0.1:9: ")
    assert message.endswith("set HF_HUB_OFFLINE=1 if the cache holds it already, or copy the files here by hand and give source=DIR")
