"""Stage `build_engine` on a GPU target: a TensorRT-LLM checkpoint to an engine, by `trtllm-build`.

The flags are those of TensorRT-LLM 1.0.0, chosen for one short request at a time whose prefix is in the KV cache: small limits, paged
context attention (without which no KV block is reused), and several optimization profiles. Nobody has run the command on any of the GPUs
yet; docs/gpu_target.md says what is to be measured. A flag is changed in `flags`, a limit in presets.toml.
"""

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from build import ROOT, container, engine_record, lock_images, logged_run, manifest, settings, trtllm_layout
from build.container import Machine, Place
from build.engine_record import EngineRecord
from build.errors import EngineError, ManifestError
from build.settings import Container, Gpu, Model, Target

ENGINE = "rank0.engine"
CONFIG = "config.json"


def gpu_of(target: Target) -> Gpu:
    """The GPU of a target that has one.

    Raises:
        EngineError: it has none.
    """
    if target.gpu is None:
        raise EngineError(f"target={target.name} has no [targets.{target.name}.gpu] in presets.toml, so TensorRT-LLM cannot build for it")
    return target.gpu


def flags(model: Model, target: Target) -> list[str]:
    """Everything of the command line that decides what the engine is like."""
    length = str(model.max_seq_len)
    chosen = {
        "max_batch_size": str(gpu_of(target).max_batch_size),
        "max_input_len": length,
        "max_seq_len": length,
        # A whole prompt in one pass: the first request finds nothing in the KV cache.
        "max_num_tokens": length,
        "max_beam_width": "1",
        "kv_cache_type": "paged",
        "tokens_per_block": str(target.tokens_per_block),
        "gpt_attention_plugin": "auto",
        "gemm_plugin": "auto",
        "context_fmha": "enable",
        "remove_input_padding": "enable",
        "use_paged_context_fmha": "enable",
        "multiple_profiles": "enable",
        "logits_dtype": "float32",
    }
    return [word for name, value in chosen.items() for word in (f"--{name}", value)]


def command(model: Model, target: Target, out: Path) -> list[str]:
    """The command line of trtllm-build."""
    timing = str(_timing_cache(target))
    places = ["--checkpoint_dir", str((model.folder / "trtllm").resolve()), "--output_dir", str(out.resolve())]
    caches = ["--input_timing_cache", timing, "--output_timing_cache", timing]
    return [container.BUILDER, *places, *flags(model, target), *caches, "--workers", "1", "--log_level", "info"]


def plan(model: Model, target: Target, gpu_index: int) -> str:
    """The command as one shell-quoted line, with the container around it unless TensorRT-LLM is installed here."""
    return shlex.join(_place(model, gpu_index).command(command(model, target, _final(model, target))))


def recorded_settings(model: Model, target: Target) -> dict[str, Any]:
    """What the engine depends on besides the checkpoint."""
    image = _image()
    versions = {"image": image.image, "tensorrt_llm": image.tensorrt_llm, "tensorrt": image.tensorrt}
    return {**versions, "gpu": gpu_of(target).name, "flags": flags(model, target)}


def is_current(model: Model, target: Target, gpu_index: int) -> bool:
    """Whether the engine was built with this machine's GPU and driver. True where there is no GPU to compare with."""
    try:
        built = engine_record.read(_final(model, target)).machine
    except EngineError:
        return False
    try:
        name, compute_capability, driver = container.gpu(Place("this machine", ("env",), gpu_index))
    except EngineError:
        return True
    return (built.gpu, built.compute_capability, built.driver) == (name, compute_capability, driver)


def build_engine(model: Model, target: Target, gpu_index: int) -> None:
    """Make `model.folder / "engine-<target>"`.

    Raises:
        ManifestError: `trtllm/` is not there or damaged.
        CheckpointError: its weights are laid out for another class of GPUs.
        EngineError: this machine cannot build for the target, or the build failed; the message names both sides, or has the end of the log.
    """
    final, image = _final(model, target), _image()
    checkpoint = manifest.read(model.folder / "trtllm")
    trtllm_layout.require_gpu(checkpoint, gpu_of(target).sm)
    _require_positions(model)
    place = _place(model, gpu_index)
    container.require(place)
    print(f"building for {gpu_of(target).name}, {place.name}", flush=True)
    machine = container.look(place)
    _require_machine(target, image, machine, gpu_index)
    tools = {"tensorrt_llm": machine.tensorrt_llm, "tensorrt": machine.tensorrt}
    inputs = {"trtllm": checkpoint.content_hash}
    with manifest.new_folder(final, "build_engine", inputs, recorded_settings(model, target), tools) as draft:
        _timing_cache(target).parent.mkdir(exist_ok=True)
        line = place.command(command(model, target, draft.path))
        logged_run.run(container.BUILDER, line, model.folder / f"build_engine-{target.name}.log")
        _require_result(draft.path, image)
        record = EngineRecord(
            target=target.name,
            built_in=place.name,
            machine=machine,
            checkpoint_hash=checkpoint.content_hash,
            awq_hash=checkpoint.inputs.get("awq", "unknown"),
            flags=tuple(flags(model, target)),
            max_batch_size=gpu_of(target).max_batch_size,
            max_seq_len=model.max_seq_len,
            tokens_per_block=target.tokens_per_block,
        )
        engine_record.write(record, draft.path)
        draft.facts.update(asdict(machine))
    done = manifest.read(final)
    print(f"{final.relative_to(ROOT)}: {done.size_bytes / 1e6:.1f} MB, {done.duration_s:.0f} s", flush=True)


def _final(model: Model, target: Target) -> Path:
    return model.folder / f"engine-{target.name}"


def _image() -> Container:
    """The pinned image, by its digest as soon as `doit lock_images` has found it out."""
    image = settings.container()
    return replace(image, image=lock_images.locked(image.image, lock_images.LOCK) or image.image)


def _place(model: Model, gpu_index: int) -> Place:
    return container.choose(_image(), gpu_index, writable=settings.CHECKPOINTS, read_only=model.folder / "trtllm")


def _timing_cache(target: Target) -> Path:
    """TensorRT's measurements of its own kernels, which hold for one GPU and one version and make the next build faster."""
    return settings.CHECKPOINTS.resolve() / "timing_cache" / f"{target.name}-tensorrt-{settings.container().tensorrt}.cache"


def _require_positions(model: Model) -> None:
    config = model.folder / "trtllm" / CONFIG
    try:
        positions = json.loads(config.read_text(encoding="utf-8"))["max_position_embeddings"]
    except (OSError, ValueError, KeyError) as error:
        raise ManifestError(f"{config} cannot be read ({error!r}): convert again with `doit convert`") from error
    if positions < model.max_seq_len:
        raise EngineError(
            f"{config} has {positions} positions, model={model.name} asks for max_seq_len = {model.max_seq_len} in presets.toml"
        )


def _require_machine(target: Target, image: Container, machine: Machine, gpu_index: int) -> None:
    gpu = gpu_of(target)
    if (machine.gpu, machine.compute_capability) != (gpu.name, gpu.compute_capability):
        raise EngineError(
            f"target={target.name} is for {gpu.name} (compute capability {gpu.compute_capability}), but GPU {gpu_index} of this machine is "
            f"{machine.gpu} ({machine.compute_capability}): choose another target=, another GPU with gpu=, or add a row to presets.toml"
        )
    wanted, found = (image.tensorrt_llm, image.tensorrt), (machine.tensorrt_llm, machine.tensorrt)
    if wanted != found:
        raise EngineError(
            "presets.toml wants TensorRT-LLM {} with TensorRT {} under [container], here is TensorRT-LLM {} with TensorRT {}: ".format(
                *wanted, *found
            )
            + f"use {image.image}, or change the table"
        )


def _require_result(folder: Path, image: Container) -> None:
    """What trtllm-build leaves, before it gets a manifest."""
    try:
        version = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["version"]
        empty = (folder / ENGINE).stat().st_size == 0
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"{container.BUILDER} ended well but left no whole engine ({error!r}): look into its log") from error
    if empty:
        raise EngineError(f"{container.BUILDER} ended well but {ENGINE} is empty: look into its log, and whether the disk is full")
    if version != image.tensorrt_llm:
        raise EngineError(f"the engine says that it is of TensorRT-LLM {version}, presets.toml wants {image.tensorrt_llm}")
