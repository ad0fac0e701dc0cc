"""Task `doctor`: what this machine can do for a target, and how to mend what it cannot: `python -m build.doctor [--help]`.

One line a check, each problem with its fix; the exit status is 1 only if the chosen target cannot work. Only the standard library is used,
so that it runs before anything is installed. A new check is a function that returns a `Check` and a line in `_checks`; those of GPU targets
are in `build.doctor_gpu`.
"""

import argparse
import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator

from build import ROOT, check_machine, doctor_gpu, manifest, settings
from build.doctor_report import Check, Report, State
from build.errors import PipelineError
from build.gpu_info import Reading, read_gpus
from build.model_size import FORMATS, Shape, engine_memory, shape_of
from build.settings import Model, Ports, Target

_LOOPBACK = "127.0.0.1"
_REQUIREMENTS = ROOT / "requirements" / "pipeline.txt"
_INT4 = FORMATS["int4_awq"]


def examine(model: Model, target: Target, ports: Ports, gpu_index: int) -> Report:
    """Look at everything that `model` on `target` needs; `gpu_index` is the GPU to use, by nvidia-smi's count."""
    return Report(model.name, target.name, tuple(_checks(model, target, ports, gpu_index)))


def _checks(model: Model, target: Target, ports: Ports, gpu_index: int) -> Iterator[Check]:
    shape = shape_of(model)
    installed = packages()
    yield installed
    yield machine(target, installed.state is not State.PROBLEM)
    reading = read_gpus()
    if target.gpu:
        need = engine_memory(shape, _INT4, target.gpu, model.max_seq_len) if shape else None
        yield from doctor_gpu.checks(reading, target.gpu, gpu_index, need, settings.container())
    else:
        yield other_gpus(reading)
    yield disk(model, target, shape)
    yield from (port(name, number) for name, number in vars(ports).items())


def packages() -> Check:
    """Whether what the pipeline is pinned to is installed."""
    pins = dict(re.findall(r"^([\w.\[\]-]+)==(\S+)$", _REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE))
    found = manifest.versions("torch", *pins)
    missing = [name for name, version in found.items() if version == "not installed"]
    others = [f"{name} {found[name]} instead of {pin}" for name, pin in pins.items() if found[name] not in (pin, "not installed")]
    here = f"Python {platform.python_version()}"
    if missing:
        return Check("packages", State.PROBLEM, f"{here}; not installed: {_some(missing)}", "`make install`, then .venv/bin/doit")
    if others:
        return Check("packages", State.WARNING, f"{here}; {_some(others)}", "`make install` where the pinned versions should be")
    return Check("packages", State.OK, f"{here}, torch {found['torch']} and {len(pins)} pinned packages")


def machine(target: Target, installed: bool) -> Check:
    """Whether system, C library and Python are such that the CPU engine and tritonserver's wheel run."""
    found = f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}"
    problems = check_machine.problems()
    if not problems:
        return Check("machine", State.OK, found)
    # What is installed already has shown that it can be; then only the server's want of libpython is left.
    stops = target.gpu is None and (not installed or check_machine.libpython_folder() is None)
    return Check("machine", State.PROBLEM if stops else State.WARNING, found, "; ".join(problems))


def other_gpus(reading: Reading) -> Check:
    """GPUs, where the target needs none."""
    if reading.problem:
        return Check("gpu", State.OK, f"not needed ({reading.problem})")
    return Check("gpu", State.OK, f"not needed; {', '.join(f'{gpu.index}: {gpu.name}' for gpu in reading.gpus)}")


def disk(model: Model, target: Target, shape: Shape | None) -> Check:
    """Whether what the stages have still to make has room."""
    free_bytes = shutil.disk_usage(ROOT).free
    found = f"{free_bytes / 1e9:.1f} GB free in {ROOT}"
    if shape is None:
        return Check("disk", State.WARNING, found, f"how much {model.name} needs is known when {model.folder / 'hf'} is there")
    stages = {"hf": FORMATS["fp16"].weight_bytes(shape)}
    # The Triton model repository holds links to the engine, which take nothing.
    stages |= dict.fromkeys(("awq", "trtllm", f"engine-{target.name}"), _INT4.weight_bytes(shape))
    missing = [name for name in stages if not (model.folder / name / manifest.NAME).is_file()]
    needed_bytes = sum(stages[name] for name in missing)
    if not missing:
        return Check("disk", State.OK, f"{found}; all stages are made")
    found = f"{found}; {needed_bytes / 1e9:.1f} GB needed for {', '.join(missing)}"
    return Check("disk", State.OK, found) if free_bytes >= needed_bytes else Check("disk", State.PROBLEM, found, "make room there")


def port(name: str, number: int) -> Check:
    """Whether the server could listen there. Perhaps it is our own server that does, so nothing is wrong yet."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, number))
        except OSError as error:
            fix = f"if that is not a server of ours: {name}=NUMBER before the task"
            return Check(name, State.WARNING, f"{number} cannot be used ({error.strerror})", fix)
    return Check(name, State.OK, f"{number} is free")


def main(arguments: list[str] | None = None) -> int:
    """Print the report; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m build.doctor", description="What this machine can do for a target, and how to mend the rest."
    )
    parser.add_argument("--model", default="pika-tiny", help="default: %(default)s")
    parser.add_argument("--target", default="cpu", help="default: %(default)s")
    for name, number in vars(Ports()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=str(number), help="default: %(default)s")
    parser.add_argument("--gpu", default="0", help="the GPU, as nvidia-smi counts them (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    given = parser.parse_args(arguments)
    try:
        ports = settings.ports(given.grpc_port, given.http_port, given.metrics_port)
        report = examine(settings.model(given.model), settings.target(given.target), ports, settings.gpu_index(given.gpu))
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report.json() if given.json else report.text())
    return 0 if report.works else 1


def _some(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


if __name__ == "__main__":
    sys.exit(main())
