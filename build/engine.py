"""Stage `build_engine` on target cpu: an AWQ checkpoint to an engine. GPU targets have `build.trtllm_build`.

The ONNX Runtime GenAI model builder takes the AutoAWQ checkpoint itself. The flags matter (each was measured): int4 with accuracy level 1
keeps activations in float32, the lm_head stays unquantized, and only the last position's logits are computed (see also `last_token`).
"""

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

from build import ROOT, last_token, logged_run, manifest
from build.settings import Model, Target

TOOLS = ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "torch", "transformers")


def command(checkpoint: Path, out: Path, cache: Path) -> list[str]:
    """The model builder's command line for target cpu; a checkpoint that is not quantized is rounded to 4 bits by the builder itself."""
    options = ["int4_accuracy_level=1", "int4_nodes_to_exclude=/lm_head/MatMul", "prune_lm_head=true"]
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    places = ["-i", str(checkpoint), "-o", str(out), "-c", str(cache)]
    return [*builder, *places, "-p", "int4", "-e", "cpu", "--extra_options", *options]


def plan(model: Model, target: Target) -> str:
    """The command as one shell-quoted line."""
    return shlex.join(
        command(model.folder / "awq", model.folder / f"engine-{target.name}", Path(tempfile.gettempdir()) / "model-builder-cache")
    )


def build_engine(model: Model, target: Target) -> None:
    """Make `model.folder / "engine-cpu"`.

    Raises:
        ManifestError: `awq/` is not there or damaged.
        EngineError: the model builder failed; the message has the end of its log and says where the whole of it is.
    """
    final = model.folder / f"engine-{target.name}"
    awq = manifest.read(model.folder / "awq")
    settings = {"intra_op_threads": target.intra_op_threads, "options": command(Path("awq"), Path("out"), Path("cache"))[-3:]}
    with manifest.new_folder(final, "build_engine", {"awq": awq.content_hash}, settings, manifest.versions(*TOOLS)) as draft:
        print("building the ONNX Runtime GenAI engine from the AWQ checkpoint", flush=True)
        run_builder(model.folder / "awq", draft.path, target.intra_op_threads, model.folder / "build_engine.log")
    done = manifest.read(final)
    print(f"{final.relative_to(ROOT)}: {done.size_bytes / 1e6:.1f} MB, {done.duration_s:.0f} s", flush=True)


def run_builder(checkpoint: Path, out: Path, threads: int, log: Path) -> None:
    """Run the model builder; move the cut and set the number of threads in what it made. Raises as `build_engine`."""
    with tempfile.TemporaryDirectory(prefix="model-builder-") as cache:
        # The builder would otherwise try to look up what is on disk already.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONWARNINGS": "ignore"}
        logged_run.run("the model builder", command(checkpoint, out, Path(cache)), log, environment)
    last_token.move_cut(out / "model.onnx")
    _set_threads(out / "genai_config.json", threads)


def _set_threads(path: Path, threads: int) -> None:
    config = json.loads(path.read_text())
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=2) + "\n")
