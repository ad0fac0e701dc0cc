"""Tags through Triton and our client beside a JSON answer's length from `vllm serve`, on one GPU, with the same weights, in one run.

    python -m benchmarks.h200.latency REPOSITORY CHECKPOINT OUT.json

REPOSITORY is assembled for a target that vLLM serves, CHECKPOINT is the one in it. Both servers start at once and stay; they are asked one
after the other, never together. OUT.json is written anew after each measurement, so that nothing is lost if the run is cut off.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.h200.askers import CompletionAsker, EngineAsker, TagAsker
from benchmarks.h200.load import Asker, measure, workers
from benchmarks.h200.questions import prepared, served_prompt
from build import manifest
from build.interrupts import interruptible
from build.ports import free_ports
from build.serve import VLLM_START_TIMEOUT_S, running

JSON_TOKENS = 18
"""Of an answer like {"emotion_name": "proud", "celebrate": "yes"}."""
NEW_TOKENS = (60, 100)
CONCURRENCY = (1, 4, 16, 64)
KV_CACHE_BYTES = 6 * 2**30
"""16384 tokens of Phi-3-mini, more than 64 requests need. Two servers that start at once cannot both measure what is left."""
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_USE_FLASHINFER_SAMPLER": "0"}


def main() -> None:
    """Start both, measure, write."""
    parser = argparse.ArgumentParser(description="Measure tags beside JSON answers.")
    parser.add_argument("repository", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--duration-s", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--prepared", type=int, default=20000, help="questions of each length that are made before")
    parser.add_argument("--serve-option", action="append", default=[], help="one more word for `vllm serve`, such as --dtype=float32")
    given = parser.parse_args()
    logs = Path(tempfile.mkdtemp(prefix="latency-"))
    settings = engine_settings(given.repository)
    results: dict[str, Any] = {
        "engine_settings": settings,
        "versions": manifest.versions("vllm", "torch", "nvidia-pytriton", "tritonclient"),
        "json_tokens": JSON_TOKENS,
        "measurements": [],
    }
    with (
        interruptible(),
        openai_server(given.checkpoint, settings, given.serve_option, logs / "vllm-serve.log") as openai,
        running(given.repository, free_ports(), logs / "triton.log") as triton,
    ):
        prompt = served_prompt(given.repository, settings["block_size"])
        began = time.monotonic()
        # Most of them now, while the servers start and nothing is measured.
        asked = {n: prepared(prompt, n, given.prepared) for n in NEW_TOKENS}
        results["prefix_tokens"] = len(prompt.prefix_ids)
        triton.wait_until_ready(VLLM_START_TIMEOUT_S)
        results["vllm_serve_ready"] = is_ready(openai)
        results["start_s"] = round(time.monotonic() - began, 1)
        with workers() as pool:
            for name, asker, most_per_s, n, concurrency in plan(triton.url, openai.port):
                try:
                    figures: dict[str, Any] = {**measure(pool, asker, asked[n], concurrency, given.duration_s, most_per_s)}
                except Exception as error:  # the others are still worth having
                    figures = {"error": repr(error)}
                results["measurements"].append({"asked": name, "new_tokens": n, **figures})
                print(json.dumps(results["measurements"][-1]), flush=True)
                given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


def plan(url: str, port: int) -> Iterator[tuple[str, Asker, int, int, int]]:
    """What is measured, the most wanted first: name, asker, more answers than it can give in a second, new tokens, callers."""
    tag, written = ("tag", TagAsker(url), 1500), ("json", CompletionAsker(port, "model", JSON_TOKENS), 500)
    engine, one = ("engine", EngineAsker(url), 3000), ("one token from vllm serve", CompletionAsker(port, "model", 1), 3000)
    for (first, second), callers in (((tag, written), CONCURRENCY), ((engine, one), (CONCURRENCY[0], CONCURRENCY[-1]))):
        for n in reversed(NEW_TOKENS):
            for concurrency in callers:
                yield *first, n, concurrency
                yield *second, n, concurrency


def engine_settings(repository: Path) -> dict[str, Any]:
    """What vLLM is given in an assembled repository, by vLLM's names."""
    config = text_format.Parse((repository / "tensorrt_llm" / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    return {name: json.loads(value.string_value) for name, value in config.parameters.items() if name != "max_queue_size"}


@dataclass(frozen=True)
class OpenAiServer:
    """`vllm serve`, starting or running."""

    process: "subprocess.Popen[bytes]"
    port: int


@contextmanager
def openai_server(checkpoint: Path, settings: dict[str, Any], options: list[str], log: Path) -> Iterator[OpenAiServer]:
    """`vllm serve` with the same settings, on a free port, ended with the block."""
    port = free_ports().http_port
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(checkpoint), "--served-model-name=model"]
    command += [
        f"--kv-cache-memory-bytes={KV_CACHE_BYTES}",
        "--host=127.0.0.1",
        f"--port={port}",
        "--disable-uvicorn-access-log",
        "--generation-config=vllm",
        *flags,
        *options,
    ]
    # Of its own: both servers compile the same model at the same time.
    environment = {**os.environ, **QUIET, "VLLM_CACHE_ROOT": str(log.parent / "cache")}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield OpenAiServer(process, port)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def is_ready(server: OpenAiServer) -> bool:
    """Wait until it answers; False if it stops instead, so that the rest can be measured all the same."""
    give_up = time.monotonic() + VLLM_START_TIMEOUT_S
    while time.monotonic() < give_up and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health", timeout=5.0):
                return True
        except OSError:
            time.sleep(0.5)
    return False


if __name__ == "__main__":
    main()
