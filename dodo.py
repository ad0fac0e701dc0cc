"""The pipeline as a table of contents: what is made from what, and in which order.

    doit list                                   what there is to do
    doit model=pika-tiny target=cpu             build everything up to the model repository
    doit demo                                   the same, then serve it and tag sample dialogues
    doit data=FILE min_celebrate=0.97 evaluate  the same, then measure on labelled dialogues
    doit info quantize                          why a stage would run again
    doit dry_run=yes build_engine               say what would be done, do nothing
    doit model=phi-3-mini target=l4 doctor      what this machine can do, and how to mend what it cannot

Settings are given as name=value before the task: model, target, gpu, dry_run, json, grpc_port, http_port, metrics_port; for serve address,
insecure, tls_certificate, tls_key, tls_clients and admin_key_file; for evaluate data and limits; for bench data and endpoint; for finetune
data and steps; for playground playground_port, prompt and save. source, revision, awq_source, layout, strategy and decoupled are remembered
in the manifest of what they made.
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
from doit.exceptions import BaseFail, TaskFailed
from doit.exceptions import TaskError as NoVerdict
from doit.tools import Interactive, config_changed

from build import (
    ROOT,
    calibration,
    certificates,
    convert,
    demo,
    download,
    engine,
    evaluate,
    hub_files,
    last_token,
    lock_images,
    manifest,
    quantize,
    repository,
    serve,
    server_options,
    settings,
    trtllm_build,
    trtllm_layout,
    verify,
    warmup,
)
from build.bench import task as bench
from build.errors import PipelineError, SettingError
from build.settings import Ports
from one_pass import TaskError
from pika_tagger import TaggerError


def kept(folder: Path, *names: str) -> tuple[str | None, ...]:
    """Settings of the stage that makes a folder, or None: those of this call and, if it has none of them, those the folder was made with.

    So a setting is given once, not with every later task. An empty one, as in `doit source= download`, takes it back.
    """
    given = [get_var(name, None) for name in names]
    if given == [None] * len(names):
        given = [manifest.setting(folder, name) for name in names]
    return tuple(value or None for value in given)


try:
    MODEL = settings.model(get_var("model", "pika-tiny"))
    TARGET = settings.target(get_var("target", "cpu"))
    HF, AWQ, TRTLLM = (MODEL.folder / name for name in ("hf", "awq", "trtllm"))
    ENGINE, REPOSITORY = (MODEL.folder / f"{name}-{TARGET.name}" for name in ("engine", "triton"))
    PORTS = settings.ports(get_var("grpc_port", "8001"), get_var("http_port", "8000"), get_var("metrics_port", "8002"))
    SOURCE, REVISION = kept(HF, "source", "revision")
    (AWQ_SOURCE,) = kept(AWQ, "awq_source")
    LAYOUT = trtllm_layout.named(kept(TRTLLM, "layout")[0] or trtllm_layout.AWQ.name)
    STRATEGY = repository.known_strategy(kept(REPOSITORY, "strategy")[0] or "codes")
    GPU = settings.gpu_index(get_var("gpu", "0"))
    DECOUPLED = settings.yes_or_no("decoupled", kept(REPOSITORY, "decoupled")[0] or "no")
    DRY_RUN = settings.yes_or_no("dry_run", get_var("dry_run", "no"))
    AS_JSON = settings.yes_or_no("json", get_var("json", "no"))
    ACCESS = server_options.access(
        address=get_var("address", server_options.LOOPBACK),
        insecure=settings.yes_or_no("insecure", get_var("insecure", "no")),
        certificate=get_var("tls_certificate", ""),
        private_key=get_var("tls_key", ""),
        client_authority=get_var("tls_clients", ""),
        admin_key_file=get_var("admin_key_file", ""),
    )
    ASKED = evaluate.asked({name: get_var(name, None) for name in evaluate.SETTINGS})
except PipelineError as error:
    sys.exit(f"error: {error}")

DOIT_CONFIG = {
    "default_tasks": ["model_repository"],
    "sort": "definition",
    "verbosity": 2,
    "reporter": "zero" if DRY_RUN or AS_JSON else "console",
    "backend": "sqlite3",
    # A dry run must not be remembered as a run: the stages would be built again.
    "dep_file": str(ROOT / (".doit.db-dry-run" if DRY_RUN else ".doit.db")),
}

CONVERTER = [
    ROOT / "build" / f"{name}.py"
    for name in ("convert", "awq", "awq_config", "trtllm_checkpoint", "trtllm_layout", "mixed_gemm", "safetensors_stream")
]
CORPUS = sorted(path for path in (ROOT / "build" / "training" / "corpus").rglob("*") if path.suffix in (".txt", ".jsonl"))


def task_doctor() -> dict[str, Any]:
    """say what this machine can do for the target, and how to mend the rest; or with json=yes"""
    asked = {"model": MODEL.name, "target": TARGET.name, "gpu": GPU, **vars(PORTS)}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items()]
    return program("build.doctor", *options, *(["--json"] if AS_JSON else []))


def task_plan() -> dict[str, Any]:
    """say how fast a tag can be on each GPU, on paper; `python -m build.plan --help` has more"""
    return program("build.plan")


def task_download() -> dict[str, Any]:
    """get the model's files at their pinned revision, or check the embedded ones"""
    own = [HF / name for name in (download.HASHES, "model.safetensors", "tokenizer.json")] if MODEL.source and not SOURCE else []
    own = [path for path in own if path.is_file()]  # what is missing is named by the stage, with the remedy
    return stage(
        lambda: download.download(MODEL, SOURCE, REVISION),
        makes=HF,
        sources=[download.__file__, hub_files.__file__, *own],
        settings={"hub": str(MODEL.hub), "source": SOURCE or MODEL.source, "revision": REVISION},
    )


def task_quantize() -> dict[str, Any]:
    """quantize it to 4 bits with AutoAWQ, calibrated on our dialogues in the real prompt"""
    return stage(
        lambda: quantize.quantize(MODEL, TARGET, AWQ_SOURCE, GPU),
        makes=AWQ,
        after=[HF],
        # Not the task file: calibration looks at it, but a prompt can be edited without a new engine.
        sources=[quantize.__file__, calibration.__file__, *CORPUS],
        settings={
            **vars(MODEL.quantize),
            "tokens_per_block": TARGET.tokens_per_block,
            "awq_source": AWQ_SOURCE,
            **manifest.versions(*quantize.TOOLS),
        },
    )


def task_convert() -> dict[str, Any]:
    """convert the AWQ checkpoint to a TensorRT-LLM checkpoint, bit for bit"""

    def run() -> None:
        made = convert.convert(AWQ, TRTLLM, {"awq": manifest.read(AWQ).content_hash}, layout=LAYOUT)
        print(convert.summary(made, TRTLLM.relative_to(ROOT)))

    return stage(run, makes=TRTLLM, after=[AWQ], sources=CONVERTER, settings={"layout": LAYOUT.name})


def task_build_engine() -> dict[str, Any]:
    """build the engine of the target: ONNX Runtime GenAI on cpu, TensorRT-LLM on a GPU"""
    if TARGET.vllm is not None:
        return {"actions": [functools.partial(say, f"target={TARGET.name} has no engine to build: vLLM reads {AWQ} itself")]}
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
        sources=[engine.__file__, last_token.__file__],
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
            after=[AWQ] if TARGET.vllm else [AWQ, ENGINE],
            sources=[repository.__file__, warmup.__file__, *templates],
            settings={
                "tokens_per_block": TARGET.tokens_per_block,
                "strategy": STRATEGY,
                "decoupled": DECOUPLED,
                "generation_slots": TARGET.generation_slots,
                "max_queue_size": TARGET.max_queue_size,
                "tagger_queue_size": TARGET.tagger_queue_size,
                **(vars(TARGET.vllm) if TARGET.vllm else {}),
            },
        ),
        # Not needed to serve on cpu, but a checkpoint that cannot be converted should be known now.
        "task_dep": [] if DRY_RUN else ["convert"],
    }


def task_serve() -> dict[str, Any]:
    """run tritonserver on the model repository in the foreground, and again if it fails"""
    return command_task(
        lambda: serve.serve(MODEL, TARGET, PORTS, ACCESS), f"tritonserver over {REPOSITORY} on {PORTS}, {ACCESS}", with_vllm=True
    )


def task_certificates() -> dict[str, Any]:
    """make certificates in checkpoints/certificates, to try TLS and mutual TLS with"""
    folder = settings.CHECKPOINTS / "certificates"
    if DRY_RUN:
        return {"actions": [functools.partial(say, f"{folder} would be made anew")]}
    return {"actions": [guarded(lambda: certificates.make(folder))], "uptodate": [False]}


def task_demo() -> dict[str, Any]:
    """build what is missing, serve it, tag sample dialogues, print a table, stop the server"""
    return command_task(lambda: demo.demo(MODEL, TARGET, PORTS), f"tritonserver over {REPOSITORY} on {PORTS}, then a table of tags")


def task_playground() -> dict[str, Any]:
    """serve a page for prompt work on 127.0.0.1, over a running server; prompt=FILE, save=FILE"""
    given = {"--port": get_var("playground_port", None), "--prompt": get_var("prompt", None), "--save": get_var("save", None)}
    options = [word for name, value in given.items() if value is not None for word in (name, value)]
    return program("build.playground", "--model", MODEL.name, "--target", TARGET.name, "--grpc-port", str(PORTS.grpc_port), *options)


def task_evaluate() -> dict[str, Any]:
    """build what is missing, serve it, measure quality: strategies, AWQ against unquantized"""
    return command_task(
        lambda: evaluate.evaluate(MODEL, TARGET, chosen_ports(), ASKED),
        f"tritonserver over {REPOSITORY}, asked about {ASKED.data}, then {HF} without quantization",
    )


def task_bench() -> dict[str, Any]:
    """build what is missing, serve it, time one pass against its JSON or against endpoint=URL"""
    url = get_var("endpoint", None)
    return command_task(
        lambda: bench.bench(MODEL, TARGET, chosen_ports(), ASKED.data, url),
        f"tritonserver over {REPOSITORY}, asked about {ASKED.data} beside {url or 'its strategy json'}",
    )


def task_verify() -> dict[str, Any]:
    """ask a server whether its engine is the one of our checkpoint; or with json=yes"""
    arguments = ["--model", MODEL.name, "--target", TARGET.name, "--gpu", str(GPU), "--url", f"{server_options.LOOPBACK}:{PORTS.grpc_port}"]
    if DRY_RUN:
        return {"actions": [functools.partial(say, shlex.join(["python", "-m", "build.verify", *arguments]))]}

    def run() -> BaseFail | None:
        status = verify.main(arguments + (["--json"] if AS_JSON else []))
        # doit's own statuses: 1 for what failed, 2 for what could not be done.
        return {0: None, 1: TaskFailed("the engine is not the one of this checkpoint")}.get(status, NoVerdict("there is no verdict"))

    return {"actions": [run], "uptodate": [False]}


def task_lock_images() -> dict[str, Any]:
    """ask the registries for the digests of the pinned images, and write them to docker/images.lock"""
    images = lock_images.images()
    if DRY_RUN:
        return {"actions": [functools.partial(say, " && ".join(shlex.join(lock_images.command(image)) for image in images.values()))]}
    return {"actions": [guarded(lambda: lock_images.lock(images))], "uptodate": [False]}


def task_train() -> dict[str, Any]:
    """train the embedded model anew, its teachers first: minutes on a GPU, hours without one"""
    place = settings.model("pika-tiny").folder  # whatever model= says: no other is trained from nothing
    checkpoint, teachers = str(place / "hf"), {seed: str(place / f"teacher-{seed}") for seed in ("20261120", "20261121")}
    training = [sys.executable, "-m", "build.training.train"]
    commands = [
        *([*training, folder, "--teacher-size", "--seed", seed] for seed, folder in teachers.items()),
        [*training, checkpoint, "--steps", "5500", "--teachers", *teachers.values()],
        [sys.executable, "-m", "build.training.threshold", checkpoint],
        [sys.executable, "-m", "build.training.report", checkpoint, str(ROOT / "docs" / "pictures")],
    ]
    plan = functools.partial(say, " && ".join(map(shlex.join, commands)))
    return {"actions": [plan] if DRY_RUN else commands, "uptodate": [False]}


def task_finetune() -> dict[str, Any]:
    """teach the model to answer in codes; data=FILE.jsonl mixes in own dialogues, steps=N"""
    given = {"--target": TARGET.name, "--data": get_var("data", None), "--steps": get_var("steps", None)}
    options = [word for name, value in given.items() if value is not None for word in (name, value)]
    return program("build.training.finetune", MODEL.name, *options) | ({} if DRY_RUN else {"file_dep": [str(HF / manifest.NAME)]})


def chosen_ports() -> Ports | None:
    """The ports, if any was given; otherwise free ones are taken, so that a server that runs is not in the way."""
    return PORTS if any(get_var(name, None) for name in vars(PORTS)) else None


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


def command_task(action: Callable[[], None], plan: str, with_vllm: bool = False) -> dict[str, Any]:
    """A task that runs every time it is asked for, on a finished model repository; `with_vllm` if it can start a server that has vLLM."""
    if DRY_RUN:
        return {"actions": [functools.partial(say, plan)]}
    if TARGET.gpu is not None:
        return {"actions": [guarded(refuse_gpu)], "uptodate": [False]}
    if TARGET.vllm is not None and not with_vllm:
        return {"actions": [guarded(refuse_vllm)], "uptodate": [False]}
    return {"actions": [guarded(action)], "task_dep": ["model_repository"], "uptodate": [False]}


def program(module: str, *arguments: str) -> dict[str, Any]:
    """A task that runs a module of ours every time it is asked for, with the terminal, on which progress is a bar."""
    line = [sys.executable, "-m", module, *arguments]
    if DRY_RUN:
        return {"actions": [functools.partial(say, shlex.join(line))]}
    return {"actions": [Interactive(line, shell=False)], "uptodate": [False]}


def refuse_vllm() -> None:
    """Only `serve` starts a server with the environment that has vLLM."""
    raise SettingError(
        f"target={TARGET.name} is served by `doit target={TARGET.name} serve` alone: start it, and ask it with pika-tag, "
        "pika-tag eval, pika-tag bench or python -m build.bench, see docs/vllm_target.md"
    )


def refuse_gpu() -> None:
    """The server of this environment has no backend for TensorRT-LLM's engines."""
    raise SettingError(
        f"target={TARGET.name} is served in {settings.container().image}, over {REPOSITORY} at {settings.container().model_repository}, "
        "not by the server of this environment: `docker compose -f docker/compose.yaml up`, see docs/gpu_target.md"
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
