"""The pipeline as a table of contents: what is made from what, and in which order.

    doit list                                   what there is to do
    doit model=pika-tiny target=cpu             build everything up to the model repository
    doit demo                                   the same, then serve it and tag sample dialogues
    doit data=FILE min_celebrate=0.97 evaluate  the same, then measure on labelled dialogues
    doit info quantize                          why a stage would run again
    doit dry_run=yes build_engine               say what would be done, do nothing

Settings are given as name=value before the task: model, target, gpu, layout, strategy, decoupled, dry_run, source, revision, awq_source,
json, grpc_port, http_port, metrics_port; for evaluate data and limits; for finetune data and steps.
The work is in build/, one module a stage. A stage depends on the manifests before it, never on weights.
"""

import functools
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doit import get_var
from doit.exceptions import TaskFailed
from doit.tools import Interactive, config_changed

from build import (
    ROOT,
    calibration,
    convert,
    demo,
    download,
    engine,
    evaluate,
    manifest,
    quantize,
    repository,
    serve,
    settings,
    trtllm_build,
    trtllm_layout,
)
from build.errors import PipelineError, SettingError
from one_pass import TaskError
from pika_tagger import TaggerError

try:
    MODEL = settings.model(get_var("model", "pika-tiny"))
    TARGET = settings.target(get_var("target", "cpu"))
    PORTS = settings.ports(get_var("grpc_port", "8001"), get_var("http_port", "8000"), get_var("metrics_port", "8002"))
    STRATEGY = repository.known_strategy(get_var("strategy", "codes"))
    LAYOUT = trtllm_layout.named(get_var("layout", trtllm_layout.AWQ.name))
    GPU = settings.gpu_index(get_var("gpu", "0"))
    DECOUPLED = settings.yes_or_no("decoupled", get_var("decoupled", "no"))
    DRY_RUN = settings.yes_or_no("dry_run", get_var("dry_run", "no"))
    SOURCE = get_var("source", None)
    ASKED = evaluate.asked({name: get_var(name, None) for name in evaluate.SETTINGS})
except PipelineError as error:
    sys.exit(f"error: {error}")

DOIT_CONFIG = {
    "default_tasks": ["model_repository"],
    "sort": "definition",
    "verbosity": 2,
    "reporter": "zero" if DRY_RUN else "console",
    "backend": "sqlite3",
    # A dry run must not be remembered as a run: the stages would be built again.
    "dep_file": str(ROOT / (".doit.db-dry-run" if DRY_RUN else ".doit.db")),
}

HF, AWQ, TRTLLM = (MODEL.folder / name for name in ("hf", "awq", "trtllm"))
ENGINE, REPOSITORY = (MODEL.folder / f"{name}-{TARGET.name}" for name in ("engine", "triton"))
CONVERTER = [
    ROOT / "build" / f"{name}.py"
    for name in ("convert", "awq", "awq_config", "trtllm_checkpoint", "trtllm_layout", "mixed_gemm", "safetensors_stream")
]
CORPUS = sorted(path for path in (ROOT / "build" / "training" / "corpus").rglob("*") if path.suffix in (".txt", ".jsonl"))


def task_download() -> dict[str, Any]:
    """get the model's files at their pinned revision, or check the embedded ones"""
    own = [HF / name for name in (download.HASHES, "model.safetensors", "tokenizer.json")] if MODEL.source and not SOURCE else []
    own = [path for path in own if path.is_file()]  # what is missing is named by the stage, with the remedy
    return stage(
        lambda: download.download(MODEL, SOURCE),
        makes=HF,
        sources=[download.__file__, *own],
        settings={"hub": str(MODEL.hub), "source": SOURCE or MODEL.source},
    )


def task_quantize() -> dict[str, Any]:
    """quantize it to 4 bits with AutoAWQ, calibrated on our dialogues in the real prompt"""
    return stage(
        lambda: quantize.quantize(MODEL, TARGET),
        makes=AWQ,
        after=[HF],
        # Not the task file: calibration looks at it, but a prompt can be edited without a new engine.
        sources=[quantize.__file__, calibration.__file__, *CORPUS],
        settings={**vars(MODEL.quantize), "tokens_per_block": TARGET.tokens_per_block, **manifest.versions(*quantize.TOOLS)},
    )


def task_convert() -> dict[str, Any]:
    """convert the AWQ checkpoint to a TensorRT-LLM checkpoint, bit for bit"""

    def run() -> None:
        made = convert.convert(AWQ, TRTLLM, {"awq": manifest.read(AWQ).content_hash}, layout=LAYOUT)
        print(convert.summary(made, TRTLLM.relative_to(ROOT)))

    return stage(run, makes=TRTLLM, after=[AWQ], sources=CONVERTER, settings={"layout": LAYOUT.name})


def task_build_engine() -> dict[str, Any]:
    """build the engine of the target: ONNX Runtime GenAI on cpu, TensorRT-LLM on a GPU"""
    if TARGET.gpu is not None:
        task = stage(
            lambda: trtllm_build.build_engine(MODEL, TARGET, GPU),
            makes=ENGINE,
            after=[TRTLLM],
            sources=[trtllm_build.__file__],
            settings=trtllm_build.recorded_settings(MODEL, TARGET),
            command=trtllm_build.plan(MODEL, TARGET, GPU),
        )
        if not DRY_RUN:
            task["uptodate"].append((trtllm_build.is_current, [MODEL, TARGET, GPU]))
        return task
    return stage(
        lambda: engine.build_engine(MODEL, TARGET),
        makes=ENGINE,
        after=[AWQ],
        sources=[engine.__file__],
        settings={"intra_op_threads": TARGET.intra_op_threads, **manifest.versions(*engine.TOOLS)},
        command=engine.plan(MODEL, TARGET),
    )


def task_model_repository() -> dict[str, Any]:
    """assemble the Triton model repository; check task, tokenizer and engine against each other"""
    templates = sorted(p for p in (ROOT / "model_repository").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {
        **stage(
            lambda: repository.assemble(MODEL, TARGET, STRATEGY, DECOUPLED),
            makes=REPOSITORY,
            after=[AWQ, ENGINE],
            sources=[repository.__file__, *templates],
            settings={
                "tokens_per_block": TARGET.tokens_per_block,
                "strategy": STRATEGY,
                "decoupled": DECOUPLED,
                "generation_slots": TARGET.generation_slots,
                "max_queue_size": TARGET.max_queue_size,
            },
        ),
        # Not needed to serve on cpu, but a checkpoint that cannot be converted should be known now.
        "task_dep": [] if DRY_RUN else ["convert"],
    }


def task_serve() -> dict[str, Any]:
    """run tritonserver on the model repository, in the foreground"""
    return command_task(lambda: serve.serve(MODEL, TARGET, PORTS), f"tritonserver over {REPOSITORY} on {PORTS}")


def task_demo() -> dict[str, Any]:
    """build what is missing, serve it, tag sample dialogues, print a table, stop the server"""
    return command_task(lambda: demo.demo(MODEL, TARGET, PORTS), f"tritonserver over {REPOSITORY} on {PORTS}, then a table of tags")


def task_evaluate() -> dict[str, Any]:
    """build what is missing, serve it, measure quality: strategies, AWQ against unquantized"""
    own_ports = any(get_var(name, None) for name in vars(PORTS))
    return command_task(
        lambda: evaluate.evaluate(MODEL, TARGET, PORTS if own_ports else None, ASKED),
        f"tritonserver over {REPOSITORY}, asked about {ASKED.data}, then {HF} without quantization",
    )


def task_train() -> dict[str, Any]:
    """train the embedded model anew: minutes on a GPU, hours without one"""
    checkpoint = str(settings.model("pika-tiny").folder / "hf")  # whatever model= says: no other is trained from nothing
    commands = [
        [sys.executable, "-m", "build.training.train", checkpoint],
        [sys.executable, "-m", "build.training.threshold", checkpoint],
        [sys.executable, "-m", "build.training.report", checkpoint, str(ROOT / "docs" / "pictures")],
    ]
    plan = functools.partial(say, " && ".join(map(shlex.join, commands)))
    return {"actions": [plan] if DRY_RUN else commands, "uptodate": [False]}


def task_finetune() -> dict[str, Any]:
    """teach the model to answer in codes; data=FILE.jsonl mixes in own dialogues, steps=N"""
    given = {"--target": TARGET.name, "--data": get_var("data", None), "--steps": get_var("steps", None)}
    options = [word for name, value in given.items() if value is not None for word in (name, value)]
    arguments = [sys.executable, "-m", "build.training.finetune", MODEL.name, *options]
    if DRY_RUN:
        return {"actions": [["echo", *arguments]]}
    # Interactive: with the terminal, on which progress is a bar.
    return {"actions": [Interactive(arguments, shell=False)], "file_dep": [str(HF / manifest.NAME)], "uptodate": [False]}


def stage(
    action: Callable[[], None],
    makes: Path,
    sources: list[Any],
    settings: Mapping[str, Any],
    after: list[Path] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """A task that makes the folder `makes` from the folders `after` and from code and data files."""
    if DRY_RUN:
        return {"actions": [functools.partial(say, command or f"{makes.relative_to(ROOT)} would be made with {dict(settings)}")]}
    return {
        "actions": [guarded(action)],
        "file_dep": [str(folder / manifest.NAME) for folder in after or []] + [str(path) for path in sources],
        "targets": [str(makes / manifest.NAME)],
        "uptodate": [config_changed(dict(settings)), (manifest.is_valid, [makes])],
        "clean": [(shutil.rmtree, [makes], {"ignore_errors": True})] if makes != HF else [],
    }


def command_task(action: Callable[[], None], plan: str) -> dict[str, Any]:
    """A task that runs every time it is asked for, on a finished model repository."""
    if DRY_RUN:
        return {"actions": [functools.partial(say, plan)]}
    if TARGET.gpu is not None:
        return {"actions": [guarded(refuse_gpu)], "uptodate": [False]}
    return {"actions": [guarded(action)], "task_dep": ["model_repository"], "uptodate": [False]}


def refuse_gpu() -> None:
    """The server of this environment has no backend for TensorRT-LLM's engines."""
    raise SettingError(
        f"target={TARGET.name} is served in {settings.container().image}, over {REPOSITORY} at {settings.container().model_repository}, "
        "not by the server of this environment: see docs/gpu_target.md"
    )


def say(text: str) -> None:
    """Print one line and nothing else."""
    print(text)


def guarded(action: Callable[[], None]) -> Callable[[], TaskFailed | None]:
    """Turn the errors that we raise on purpose into a message without a traceback."""

    def run() -> TaskFailed | None:
        try:
            action()
        except (PipelineError, TaskError, TaggerError) as error:
            return TaskFailed(f"{type(error).__name__}: {error}")
        return None

    return run
