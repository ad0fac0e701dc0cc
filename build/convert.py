"""The convert stage: an AutoAWQ checkpoint of Phi-3 becomes a TensorRT-LLM checkpoint.

    python -m build.convert [--layout gptq] AWQ_DIR OUT_DIR

TensorRT-LLM 1.0.0 cannot read AutoAWQ directories of this model, but its own forms can hold exactly the same 4-bit values and scales, so
nothing is quantized again: bits are moved. Only the zero points change form, and are rounded to fp16 once. The formats are described in
`build.awq` (in), `build.trtllm_checkpoint` and `build.trtllm_layout` (out). This module says which tensor becomes which.

TensorRT-LLM has not loaded the output yet: that needs its container and a GPU. `doit target=l4 build_engine` will show it there; until then
the tests compare bits, names and dequantized logits.

No GPU, torch or transformers is needed, and only one layer is in memory at a time, so that a laptop can do it.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from build import manifest
from build.awq import AwqCheckpoint, AwqLinear
from build.disk import existing_part
from build.errors import CheckpointError, PipelineError
from build.manifest import Manifest
from build.safetensors_stream import StreamWriter
from build.trtllm_checkpoint import (
    CONFIG,
    TRTLLM_VERSION,
    WEIGHTS,
    config_json,
    swap_halves,
    tensor_table,
)
from build.trtllm_layout import AWQ, LAYOUTS, Layout

STAGE = "convert"


def _silent(layer: int, n_layers: int) -> None:
    pass


def convert(
    awq_dir: Path,
    out_dir: Path,
    inputs: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = _silent,
    layout: Layout = AWQ,
) -> Manifest:
    """Convert a checkpoint; `out_dir` appears when it is whole, and an older result stays until then.

    Args:
        awq_dir: the folder that AutoAWQ saved the model in.
        out_dir: where config.json, rank0.safetensors and manifest.json go.
        inputs: what the manifest names as the stage's inputs. Without it: the content hash of `awq_dir`'s manifest or, where there is
            none, the SHA-256 of each file that is read.
        progress: called with (layers done, layers) after each layer.
        layout: the form of the quantized layers.

    Raises:
        CheckpointError: the checkpoint cannot be converted, or `out_dir` may not be replaced. The message names the thing and the fix.
    """
    _check_target(awq_dir, out_dir)
    checkpoint = AwqCheckpoint(awq_dir)
    config = checkpoint.config
    table = tensor_table(config, layout)
    tensor_bytes = sum(spec.size_bytes for spec in table.values())
    _check_space(out_dir, tensor_bytes)
    with manifest.new_folder(
        out_dir,
        stage=STAGE,
        inputs=_hashes(awq_dir, checkpoint.files) if inputs is None else inputs,
        settings={"layout": layout.name, "quant_algo": layout.quant_algo, "dtype": "float16", "tp_size": 1},
        tools=manifest.versions("numpy", "safetensors"),
    ) as draft:
        (draft.path / CONFIG).write_text(json.dumps(config_json(config, layout), indent=2) + "\n")
        with StreamWriter(draft.path / WEIGHTS, table) as target:
            target.write("transformer.vocab_embedding.weight", checkpoint.halves("model.embed_tokens.weight"))
            for layer in range(config.num_hidden_layers):
                _convert_layer(checkpoint, target, layer, layout)
                progress(layer + 1, config.num_hidden_layers)
            target.write("transformer.ln_f.weight", checkpoint.halves("model.norm.weight"))
            target.write("lm_head.weight", checkpoint.halves("lm_head.weight"))
        draft.facts.update(
            format="TensorRT-LLM unified checkpoint",
            trtllm_version=TRTLLM_VERSION,
            sms=layout.sms,
            tensors=len(table),
            tensor_bytes=tensor_bytes,
            peak_rss_bytes=_peak_rss_bytes(),
        )
    return manifest.read(out_dir)


def _convert_layer(checkpoint: AwqCheckpoint, target: StreamWriter, layer: int, layout: Layout) -> None:
    """Write one decoder layer, in the order of `tensor_table`. Rows of qkv are q, k, v on both sides."""
    hf, trt = f"model.layers.{layer}", f"transformer.layers.{layer}"

    def write_linear(module: str, linear: AwqLinear) -> None:
        for parameter, tensor in layout.tensors(linear).items():
            target.write(f"{trt}.{module}.{parameter}", [tensor])

    target.write(f"{trt}.input_layernorm.weight", checkpoint.halves(f"{hf}.input_layernorm.weight"))
    write_linear("attention.qkv", checkpoint.linear(f"{hf}.self_attn.qkv_proj"))
    write_linear("attention.dense", checkpoint.linear(f"{hf}.self_attn.o_proj"))
    target.write(f"{trt}.post_layernorm.weight", checkpoint.halves(f"{hf}.post_attention_layernorm.weight"))
    gate_up = checkpoint.linear(f"{hf}.mlp.gate_up_proj")
    write_linear("mlp.fc", AwqLinear(swap_halves(gate_up.q), swap_halves(gate_up.z), swap_halves(gate_up.scales)))
    write_linear("mlp.proj", checkpoint.linear(f"{hf}.mlp.down_proj"))


def _check_target(awq_dir: Path, out_dir: Path) -> None:
    """Refuse to replace anything but an earlier result of this stage."""
    source, target = awq_dir.resolve(), out_dir.resolve()
    if target == source or target in source.parents:
        raise CheckpointError(f"{out_dir} is or holds the checkpoint to convert, and would be replaced: give another folder for the result")
    if not out_dir.exists():
        return
    if not out_dir.is_dir():
        raise CheckpointError(f"{out_dir} is a file: give another folder for the result")
    if any(out_dir.iterdir()) and _stage_of(out_dir) != STAGE:
        raise CheckpointError(f"{out_dir} is no earlier result of this stage and will not be replaced: give another folder")


def _stage_of(folder: Path) -> object:
    """Who made a folder, if its manifest says so. The rest of it may be incomplete: replacing such a folder is how it is mended."""
    try:
        return json.loads((folder / manifest.NAME).read_text()).get("stage")
    except (OSError, ValueError, AttributeError):
        return None


def _check_space(out_dir: Path, needed_bytes: int) -> None:
    existing = existing_part(out_dir)
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise CheckpointError(f"{existing} has {free_bytes / 1e9:.2f} GB free, the result needs {needed_bytes / 1e9:.2f} GB")


def _hashes(awq_dir: Path, files: list[Path]) -> dict[str, str]:
    if manifest.is_valid(awq_dir):
        return {"awq": manifest.read(awq_dir).content_hash}
    return {path.name: manifest.sha256_of(path) for path in (awq_dir / CONFIG, *files)}


def _peak_rss_bytes() -> int | None:
    """The most memory this process ever held; None where there is no /proc. getrusage would count the parent's memory before exec, too."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def summary(made: Manifest, out_dir: Path) -> str:
    """One line on what was made."""
    return f"{out_dir}: {made.facts['tensors']} tensors, {made.size_bytes / 1e6:.1f} MB, {made.duration_s:.1f} s"


def main(arguments: list[str] | None = None) -> int:
    """Command line. Returns the exit code: 0, or 1 with one line on stderr; argparse exits with 2 itself."""
    parser = argparse.ArgumentParser(prog="python -m build.convert", description="AutoAWQ checkpoint of Phi-3 -> TensorRT-LLM checkpoint")
    parser.add_argument("awq_dir", type=Path, help="the folder that AutoAWQ saved the model in")
    parser.add_argument("out_dir", type=Path, help="the folder to make; an earlier result there is replaced")
    parser.add_argument("--layout", choices=LAYOUTS, default=AWQ.name, help="gptq is the fallback if TensorRT-LLM refuses %(default)s")
    given = parser.parse_args(arguments)

    def show(layer: int, n_layers: int) -> None:
        print(f"layer {layer}/{n_layers}", flush=True)

    try:
        made = convert(given.awq_dir, given.out_dir, progress=show, layout=LAYOUTS[given.layout])
    except (PipelineError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(made, given.out_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
