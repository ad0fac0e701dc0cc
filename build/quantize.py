"""Stage `quantize`: `hf/` to `awq/` with AutoAWQ 0.2.9, 4-bit, groups of 128, zero point, GEMM packing.

Runs on a CPU or a GPU with the same code. AutoAWQ is archived; the versions it is run with are pinned in requirements/pipeline.txt, and the
one name that newer transformers no longer have is put back in `_import_autoawq`. With Phi-3-mini on a GPU this stage has not been run yet:
`doit model=phi-3-mini quantize` does it.
"""

import contextlib
import io
import os
import resource
import shutil
from pathlib import Path
from typing import Any

from build import ROOT, calibration, manifest
from build.settings import Model, Quantization, Target
from one_pass import NO_LIMITS, Prompt, Task, TextCodec

GROUP_SIZE = 128
FORMAT = {"zero_point": True, "q_group_size": GROUP_SIZE, "w_bit": 4, "version": "GEMM"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "added_tokens.json")
TOOLS = ("autoawq", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def quantize(model: Model, target: Target) -> None:
    """Make `model.folder / "awq"`.

    Args:
        model: the model, whose `hf/` exists.
        target: where it will be served; only its KV-cache block size matters, because the prefix is padded to it.

    Raises:
        ManifestError: `hf/` is not there or damaged.
    """
    source, settings = model.folder / "hf", model.quantize
    hf = manifest.read(source)
    task = Task.load(model.task_file)
    prompt = Prompt(task, TextCodec.load(source / "tokenizer.json"), target.tokens_per_block, NO_LIMITS)
    recipe = {**FORMAT, **vars(settings)}
    inputs = {"hf": hf.content_hash, "task": manifest.sha256_of(model.task_file)}
    with manifest.new_folder(model.folder / "awq", "quantize", inputs, recipe, manifest.versions(*TOOLS)) as draft:
        data = calibration.samples(prompt, settings.calibration_samples, settings.seed)
        print(f"calibrating on {len(data)} samples of {len(data[0])} tokens: our dialogues in the prompt they are served in", flush=True)
        _run_autoawq(source, draft.path, data, settings)
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, draft.path / name)
        draft.facts["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    done = manifest.read(model.folder / "awq")
    print(
        f"{(model.folder / 'awq').relative_to(ROOT)}: {done.size_bytes / 1e6:.1f} MB (from {hf.size_bytes / 1e6:.1f}), "
        f"{done.duration_s:.0f} s, peak {done.facts['peak_rss_bytes'] / 1e6:.0f} MB of memory",
        flush=True,
    )


def _run_autoawq(source: Path, out: Path, data: list[list[int]], settings: Quantization) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is on disk; nothing may be looked up
    auto_model, torch = _import_autoawq()
    on_gpu = torch.cuda.is_available()
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
