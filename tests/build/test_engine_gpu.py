"""`build_engine` on a GPU target: the command is right by TensorRT-LLM's own flags, and what does not fit is refused with both sides named.

docker and the tools of NVIDIA's image are stood in for by tests/support/trtllm_container.py. What only a GPU can show is not shown here.
"""

import json
import shlex
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from build import container, engine_record, lock_images, logged_run, manifest, settings, trtllm_build
from build.errors import CheckpointError, EngineError, ManifestError
from build.settings import Target
from tests.support import trtllm_container
from tests.support.checkout import Checkout

TARGETS = ("l4", "rtx3090", "a10g")
L4 = settings.target("l4")


@dataclass
class Box:
    """A machine with docker, and a model whose checkpoint is converted."""

    place: Checkout
    tools: Path

    def says(self, **words: str) -> None:
        """What the tools in the image say."""
        (self.tools / trtllm_container.SAYS).write_text(json.dumps(words))

    def calls(self) -> list[list[str]]:
        """What docker was called with."""
        path = self.tools / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def convert(self, positions: int = 4096, sms: list[int] | None = None) -> Path:
        """Leave a checkpoint as `convert` does, without weights."""
        folder = self.place.model.folder / "trtllm"
        shutil.rmtree(folder, ignore_errors=True)
        with manifest.new_folder(folder, "convert", {"awq": "a" * 64}, {"layout": "gptq" if sms else "awq"}, {}) as draft:
            (draft.path / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
            draft.facts["sms"] = sms
        return folder

    def build(self, target: Target = L4, gpu_index: int = 0) -> Path:
        trtllm_build.build_engine(self.place.model, target, gpu_index)
        return self.place.model.folder / f"engine-{target.name}"


@pytest.fixture
def box(place: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.setattr(lock_images, "LOCK", tmp_path / "none")
    tools = tmp_path / "tools"
    tools.mkdir()
    source = Path(trtllm_container.__file__).read_text()
    (tools / "docker").write_text(f"#!{sys.executable}\n{source}")
    (tools / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(trtllm_build, "ROOT", tmp_path)
    made = Box(place, tools)
    made.says()
    made.convert()
    return made


def inner(line: list[str]) -> list[str]:
    """The arguments of trtllm-build in a whole command line."""
    return line[line.index("trtllm-build") + 1 :]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("model", ["pika-tiny", "phi-3-mini"])
def test_trtllm_build_knows_every_flag_and_value(name: str, model: str) -> None:
    target = settings.target(name)
    given = trtllm_container.trtllm_build_parser().parse_args(inner(trtllm_build.command(settings.model(model), target, Path("/out"))))
    assert target.gpu is not None
    assert (given.max_batch_size, given.tokens_per_block, given.max_beam_width) == (target.gpu.max_batch_size, target.tokens_per_block, 1)
    assert given.max_seq_len == given.max_input_len == settings.model(model).max_seq_len
    assert given.max_num_tokens >= given.max_input_len  # else the first request, which finds no prefix, would be refused
    assert (given.use_paged_context_fmha, given.kv_cache_type, given.multiple_profiles) == ("enable", "paged", "enable")
    assert given.logits_dtype == "float32"
    assert given.opt_num_tokens is None  # multiple profiles do not go with it


def test_a_flag_of_another_version_would_be_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        trtllm_container.trtllm_build_parser().parse_args(["--use_custom_all_reduce", "disable"])
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("name", TARGETS)
def test_the_kv_cache_holds_at_least_one_whole_request(name: str) -> None:
    target = settings.target(name)
    assert target.gpu is not None
    assert target.gpu.kv_cache_tokens >= settings.model("phi-3-mini").max_seq_len
    assert target.gpu.kv_cache_tokens % target.tokens_per_block == 0


def test_the_plan_is_one_line_that_a_shell_reads_back(box: Box) -> None:
    line = trtllm_build.plan(box.place.model, L4, 2)
    assert "\n" not in line
    words = shlex.split(line)
    assert words[:2] == ["docker", "run"]
    assert words[words.index("--gpus") + 1] == "device=2"
    assert settings.container().image in words
    assert inner(words) == trtllm_build.command(box.place.model, L4, box.place.model.folder / "engine-l4")[1:]
    assert box.calls() == []


def test_where_tensorrt_llm_is_installed_no_container_is_used(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "installed", lambda: True)
    words = shlex.split(trtllm_build.plan(box.place.model, L4, 1))
    assert words[0] == "env"
    assert "CUDA_VISIBLE_DEVICES=1" in words
    assert "docker" not in words


def test_tensorrt_llm_counts_as_installed_only_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not container.installed()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert container.installed()


def test_an_engine_is_sealed_with_all_that_it_depends_on(box: Box) -> None:
    folder = box.build()
    made = manifest.verify_contents(folder)
    assert made.files.keys() == {"config.json", "rank0.engine", engine_record.NAME}
    assert made.inputs == {"trtllm": manifest.read(box.place.model.folder / "trtllm").content_hash}
    assert made.tools == {"tensorrt_llm": "1.0.0", "tensorrt": "10.11.0.33"}
    record = engine_record.read(folder)
    assert record.machine == container.Machine("1.0.0", "10.11.0.33", "NVIDIA L4", "8.9", "570.124.06")
    assert (record.target, record.built_in, record.awq_hash) == ("l4", settings.container().image, "a" * 64)
    assert record.flags == tuple(trtllm_build.flags(box.place.model, L4))
    assert (record.max_seq_len, record.tokens_per_block) == (box.place.model.max_seq_len, 32)
    assert record.checkpoint_hash == made.inputs["trtllm"]
    assert "TensorRT-LLM version" in (box.place.model.folder / "build_engine-l4.log").read_text()
    timing = settings.CHECKPOINTS / "timing_cache" / "l4-tensorrt-10.11.0.33.cache"
    assert timing.read_text() == "timings"


def test_one_gpu_of_several_is_given_to_the_container(box: Box) -> None:
    box.build(gpu_index=1)
    assert all(call[call.index("--gpus") + 1] == "device=1" for call in box.calls())
    (smi,) = [call for call in box.calls() if "nvidia-smi" in call]
    assert "--id=0" in smi  # in there it is the only one


def test_a_silent_build_gives_signs_of_life(box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(logged_run, "HEARTBEAT_S", 0.1)
    box.says(log="[TRT] [I] Global timing cache in use.", build_s="1.5")
    box.build()
    assert "still at it: [TRT] [I] Global timing cache in use." in capsys.readouterr().out


def test_without_docker_and_tensorrt_llm_both_ways_are_named(box: Box) -> None:
    (box.tools / "docker").unlink()
    with pytest.raises(EngineError, match=rf"neither TensorRT-LLM nor docker .* inside {settings.container().image}.* or install docker"):
        box.build()


@pytest.mark.parametrize(
    ("gpu", "sides"),
    [
        ("NVIDIA GeForce RTX 3090, 8.6, 535.230.02", ("target=l4 is for NVIDIA L4", "GPU 0 of this machine is NVIDIA GeForce RTX 3090")),
        ("NVIDIA L4, 9.0, 570.124.06", ("compute capability 8.9", "NVIDIA L4 (9.0)")),
    ],
)
def test_another_gpu_is_refused_with_both_named(box: Box, gpu: str, sides: tuple[str, str]) -> None:
    box.says(gpu=gpu)
    with pytest.raises(EngineError) as caught:
        box.build()
    assert all(side in str(caught.value) for side in sides)
    assert not any("trtllm-build" in call for call in box.calls())


@pytest.mark.parametrize("versions", ["1.2.1 10.14.1.48", "1.0.0 10.10.0.31"])
def test_another_version_is_refused_with_both_named(box: Box, versions: str) -> None:
    box.says(versions=versions)
    llm, tensorrt = versions.split()
    with pytest.raises(
        EngineError, match=rf"wants TensorRT-LLM 1\.0\.0 with TensorRT 10\.11\.0\.33 .* TensorRT-LLM {llm} with TensorRT {tensorrt}"
    ):
        box.build()
    assert not any("trtllm-build" in call for call in box.calls())


def test_a_container_without_a_gpu_is_told_with_the_fix(box: Box) -> None:
    box.says(smi_error='docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].')
    with pytest.raises(EngineError, match=r"(?s)could not select device driver.*Likely cause: .*NVIDIA Container Toolkit"):
        box.build()


def test_what_nvidia_smi_should_not_say_is_shown(box: Box) -> None:
    box.says(gpu="No devices were found")
    with pytest.raises(EngineError, match="said 'No devices were found'"):
        box.build()


def test_what_should_be_versions_and_is_not_is_shown(box: Box) -> None:
    box.says(versions="1.0.0")
    with pytest.raises(EngineError, match=r"asked for the versions of TensorRT-LLM and TensorRT and said '1\.0\.0'"):
        box.build()


def test_weights_laid_out_for_other_gpus_are_refused(box: Box) -> None:
    box.convert(sms=[90, 90])
    with pytest.raises(CheckpointError, match=r"SM 90 to 90, and this GPU is SM 89"):
        box.build()
    assert box.calls() == []


def test_a_request_longer_than_the_model_can_be_is_refused(box: Box) -> None:
    box.convert(positions=1024)
    with pytest.raises(EngineError, match=rf"has 1024 positions, model=small asks for max_seq_len = {box.place.model.max_seq_len}"):
        box.build()


def test_without_a_checkpoint_nothing_is_built(box: Box) -> None:
    (box.place.model.folder / "trtllm" / manifest.NAME).unlink()
    with pytest.raises(ManifestError, match=r"trtllm has no manifest\.json"):
        box.build()
    assert box.calls() == []


def test_a_failed_build_is_told_with_its_cause_and_keeps_the_older_engine(box: Box) -> None:
    folder = box.build()
    before = manifest.read(folder)
    box.says(log="RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB", status="1")
    with pytest.raises(EngineError) as caught:
        box.build()
    log = box.place.model.folder / "build_engine-l4.log"
    assert str(caught.value).startswith(f"trtllm-build ended with status 1. The end of {log}:")
    assert "Likely cause: the GPU's memory is full" in str(caught.value)
    assert "Tried to allocate" in log.read_text()
    assert manifest.verify_contents(folder) == before
    assert not [path for path in box.place.left() if "partial" in path]


@pytest.mark.parametrize(
    ("says", "words"),
    [({"engine": ""}, r"rank0\.engine is empty"), ({"engine_version": "0.19.0"}, r"of TensorRT-LLM 0\.19\.0, presets\.toml wants 1\.0\.0")],
)
def test_a_build_that_ends_well_with_nothing_usable_is_a_failure(box: Box, says: dict[str, str], words: str) -> None:
    box.says(**says)
    with pytest.raises(EngineError, match=words):
        box.build()
    assert "engine-l4" not in box.place.left()


@pytest.mark.parametrize(
    ("here", "current"),
    [
        ("NVIDIA L4, 8.9, 570.124.06", True),
        ("NVIDIA L4, 8.9, 575.57.08", False),
        ("NVIDIA GeForce RTX 3090, 8.6, 570.124.06", False),
    ],
)
def test_an_engine_of_another_gpu_or_driver_is_built_again(box: Box, here: str, current: bool) -> None:
    box.build()
    smi = box.tools / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{here}'\n")
    smi.chmod(0o755)
    assert trtllm_build.is_current(box.place.model, L4, 0) is current


def test_an_engine_stays_where_there_is_no_gpu_to_compare_with(box: Box) -> None:
    assert not trtllm_build.is_current(box.place.model, L4, 0)  # there is none yet
    box.build()
    assert trtllm_build.is_current(box.place.model, L4, 0) == (shutil.which("nvidia-smi") is None)


def test_flags_and_image_are_among_what_a_rebuild_depends_on(box: Box) -> None:
    assert L4.gpu is not None
    other = replace(L4, gpu=replace(L4.gpu, max_batch_size=2))
    first, second = (trtllm_build.recorded_settings(box.place.model, target) for target in (L4, other))
    assert first != second
    assert first["image"] == settings.container().image
    assert manifest.read(box.build()).settings == json.loads(json.dumps(first))


def test_the_image_is_named_by_its_digest_once_that_is_known(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = trtllm_build.recorded_settings(box.place.model, L4)
    digest = f"{settings.container().image}@sha256:{'d' * 64}"
    (tmp_path / "images.lock").write_text(f"{lock_images.VARIABLE}={digest}\n")
    monkeypatch.setattr(lock_images, "LOCK", tmp_path / "images.lock")
    assert digest in shlex.split(trtllm_build.plan(box.place.model, L4, 0))
    assert trtllm_build.recorded_settings(box.place.model, L4) == before | {"image": digest}  # so another digest means another engine
    assert engine_record.read(box.build()).built_in == digest
    assert all(digest in call for call in box.calls())


def test_the_cpu_target_has_no_gpu_engine(box: Box) -> None:
    with pytest.raises(EngineError, match=r"target=cpu has no \[targets\.cpu\.gpu\] in presets\.toml"):
        box.build(box.place.target)
