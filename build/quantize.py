"""Stage `quantize`: `hf/` to `awq/` with AutoAWQ 0.2.9, 4-bit, groups of 128, zero point, GEMM packing.

An AutoAWQ checkpoint that exists already is taken instead with `awq_source=DIR`. It and our own pass the same checks: of a form that the
converter takes, and quantized from the very model in `hf/`. AutoAWQ leaves embedding and lm_head as they are, so these two must be equal.

Runs on a CPU or a GPU with the same code. AutoAWQ is archived; the versions it is run with are pinned in requirements/pipeline.txt, and the
one name that newer transformers no longer have is put back in `_import_autoawq`. On a GPU it has been run with the embedded model and with
random weights of Phi-3-mini's shape (docs/gpu_target.md), not yet with Phi-3: `doit model=phi-3-mini quantize` does it.
"""

import contextlib
import io
import os
import resource
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open

from build import ROOT, calibration, manifest
from build.awq import INDEX, AwqCheckpoint
from build.awq_config import GROUP_SIZE, read_json
from build.errors import CheckpointError, SettingError
from build.safetensors_stream import read_specs
from build.settings import Model, Quantization, Target
from one_pass import NO_LIMITS, Prompt, Task, TextCodec

FORMAT = {"zero_point": True, "q_group_size": GROUP_SIZE, "w_bit": 4, "version": "GEMM"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "added_tokens.json")
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rope_theta")
_ROWS = 4096
_ANOTHER = "they are two models; give the checkpoint that was quantized from the second, or download the model that the first is of"
UNQUANTIZED = ("model.embed_tokens.weight", "lm_head.weight")
TOOLS = ("autoawq", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def quantize(model: Model, target: Target, awq_source: str | None = None, gpu_index: int = 0) -> None:
    """Make `model.folder / "awq"`.

    Args:
        model: the model, whose `hf/` exists.
        target: where it will be served; only its KV-cache block size matters, because the prefix is padded to it.
        awq_source: a directory with an AutoAWQ checkpoint of this model, to be taken instead of quantizing.
        gpu_index: the GPU to use, as nvidia-smi counts them, unless CUDA_VISIBLE_DEVICES is set; without a GPU it means nothing.

    Raises:
        ManifestError: `hf/` is not there or damaged.
        CheckpointError: the quantized checkpoint is not of the form that the converter takes, or is one of another model.
        SettingError: the GPU has too little memory.
    """
    source = model.folder / "hf"
    hf = manifest.read(source)
    inputs = {"hf": hf.content_hash}
    recipe: dict[str, Any] = dict(FORMAT)
    if awq_source is None:
        inputs["task"] = manifest.sha256_of(model.task_file)
        recipe |= vars(model.quantize)
    else:
        recipe["awq_source"] = awq_source
        print(f"taking the AutoAWQ checkpoint in {awq_source}; `doit awq_source= quantize` would quantize anew", flush=True)
        check(Path(awq_source), source)
    with manifest.new_folder(model.folder / "awq", "quantize", inputs, recipe, manifest.versions(*TOOLS)) as draft:
        if awq_source is None:
            _make(model, target, gpu_index, draft.path)
            check(draft.path, source)
        else:
            _copy(Path(awq_source), draft.path)
        for name in TOKENIZER_FILES:  # those of hf/ in any case: they are the ones that prompts were checked with
            if (source / name).is_file():
                shutil.copyfile(source / name, draft.path / name)
        draft.facts |= {
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_gpu_bytes": _peak_gpu_bytes(),
        }
    done = manifest.read(model.folder / "awq")
    on_gpu = f" and {done.facts['peak_gpu_bytes'] / 1e6:.0f} MB of the GPU's" if done.facts["peak_gpu_bytes"] else ""
    print(
        f"{(model.folder / 'awq').relative_to(ROOT)}: {done.size_bytes / 1e6:.1f} MB (from {hf.size_bytes / 1e6:.1f}), "
        f"{done.duration_s:.0f} s, peak {done.facts['peak_rss_bytes'] / 1e6:.0f} MB of memory{on_gpu}",
        flush=True,
    )


def _peak_gpu_bytes() -> int | None:
    """The most that torch's allocator held of the GPU's memory; None if no GPU was used."""
    import torch

    return torch.cuda.max_memory_reserved() or None


def _make(model: Model, target: Target, gpu_index: int, out: Path) -> None:
    source, settings = model.folder / "hf", model.quantize
    prompt = Prompt(Task.load(model.task_file), TextCodec.load(source / "tokenizer.json"), target.tokens_per_block, NO_LIMITS)
    data = calibration.samples(prompt, settings.calibration_samples, settings.seed)
    print(f"calibrating on {len(data)} samples of {len(data[0])} tokens: our dialogues in the prompt they are served in", flush=True)
    # AutoAWQ takes the first GPU that it sees. Both are read when CUDA is first used, which is later.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(gpu_index))
    import torch

    try:
        _run_autoawq(source, out, data, settings)
    except torch.OutOfMemoryError as error:
        raise SettingError(
            f"GPU {os.environ['CUDA_VISIBLE_DEVICES']} has too little free memory to quantize {model.name}: choose another one with "
            f"gpu=NUMBER, or quantize on the processor, slowly, with CUDA_VISIBLE_DEVICES= in the environment\n{error}"
        ) from error


def check(awq: Path, hf: Path) -> None:
    """Whether a quantized checkpoint can be converted and was made from the model in `hf`.

    Raises:
        CheckpointError: it cannot, or it was not; the message names what differs and both folders.
    """
    homes = {name: path for path in AwqCheckpoint(awq).files for name in read_specs(path)}
    config, original = read_json(awq / "config.json"), read_json(hf / "config.json")
    for key in SIZES:
        if config.get(key) != original.get(key):
            raise CheckpointError(f"{key} is {config.get(key)} in {awq} and {original.get(key)} in {hf}: {_ANOTHER}")
    originals = {name: path for path in sorted(hf.glob("*.safetensors")) for name in read_specs(path)}
    for name in UNQUANTIZED:
        if name not in originals:
            raise CheckpointError(f"{hf} has no {name}: fetch the model again")
        if not _equal_in_fp16(homes[name], originals[name], name):
            raise CheckpointError(f"{name} is not the same in {awq} and {hf}: {_ANOTHER}")


def _equal_in_fp16(ours: Path, original: Path, name: str) -> bool:
    """In blocks of rows, by torch: numpy has no bfloat16, which Phi-3 comes in."""
    import torch

    with safe_open(ours, framework="pt") as a, safe_open(original, framework="pt") as b:
        left, right = a.get_slice(name), b.get_slice(name)
        if left.get_shape() != right.get_shape():
            return False
        blocks = (slice(start, start + _ROWS) for start in range(0, left.get_shape()[0], _ROWS))
        return all(torch.equal(left[rows].half(), right[rows].half()) for rows in blocks)


def _copy(source: Path, to: Path) -> None:
    optional = [path for path in (source / INDEX, source / "generation_config.json") if path.is_file()]
    for path in [source / "config.json", *AwqCheckpoint(source).files, *optional]:
        shutil.copyfile(path, to / path.name)


def _run_autoawq(source: Path, out: Path, data: list[list[int]], settings: Quantization) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is on disk; nothing may be looked up
    auto_model, torch = _import_autoawq()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        free_bytes, total_bytes = torch.cuda.mem_get_info()
        print(f"on {torch.cuda.get_device_name()}, {free_bytes / 1e9:.1f} of {total_bytes / 1e9:.1f} GB free", flush=True)
    model = auto_model.from_pretrained(
        str(source),
        device_map="cuda" if on_gpu else "cpu",
        # Most CPUs have no float16 arithmetic: emulated, it took eight times as long.
        torch_dtype=torch.float16 if on_gpu else torch.float32,
        safetensors=True,
        use_cache=False,
        trust_remote_code=False,
    )
    model.quantize(
        tokenizer=None,  # the samples are ids already
        quant_config=dict(FORMAT),
        calib_data=data,
        max_calib_samples=len(data),
        max_calib_seq_len=len(data[0]),
        apply_clip=settings.search_clipping,
        duo_scaling=settings.duo_scaling,
    )
    model.model.half()  # what was not quantized; the rest is in its final form already
    model.model.config.torch_dtype = torch.float16
    model.save_quantized(str(out))


def _import_autoawq() -> tuple[Any, Any]:
    """AutoAWQForCausalLM and torch."""
    import torch
    import transformers.activations
    from transformers.utils import logging

    logging.set_verbosity_error()  # AutoAWQ passes an argument by its former name, which works

    if not hasattr(transformers.activations, "PytorchGELUTanh"):
        # Renamed in transformers 4.57; AutoAWQ 0.2.9 imports the old name for models that are not used here.
        transformers.activations.PytorchGELUTanh = transformers.activations.GELUTanh
    with contextlib.redirect_stderr(io.StringIO()):  # AutoAWQ announces its retirement at every import, at length
        from awq import AutoAWQForCausalLM
    return AutoAWQForCausalLM, torch
