"""Tags of two model repositories, timed side by side: `python -m build.measure_tags BEFORE AFTER`.

Both are served at once and asked the same dialogue in turn, in random order, so that whatever else the machine does falls on both alike;
the ratio of the medians is what to look at. With --generations N so many long answers are written by the second one meanwhile, which
shows what a tag waits for; the first may be of a time when there were none. Nothing is built here.
"""

import argparse
import json
import math
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from build.evaluate import DIALOGUES
from build.ports import free_ports
from build.serve import Server, running
from pika_tagger import TaggerClient

ANSWER_TOKENS = 400


def main() -> None:
    """Print one line for each repository: p50 and p95 in milliseconds, and the ratio of the p50 to the first one's."""
    parser = argparse.ArgumentParser(description="Time the tags of two model repositories side by side.")
    parser.add_argument("repositories", type=Path, nargs=2, metavar="REPOSITORY")
    parser.add_argument("--tags", type=int, default=400, help="for each repository")
    parser.add_argument("--gap-ms", type=float, default=0.0, help="pause before each tag")
    parser.add_argument("--generations", type=int, default=0, help="long answers that the second one writes meanwhile")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    random.seed(1)
    logs = Path(tempfile.mkdtemp(prefix="measure-tags-"))
    before, after = arguments.repositories
    with running(before, free_ports(), logs / "before.log") as first, running(after, free_ports(), logs / "after.log") as second:
        servers = (first, second)
        for server in servers:
            server.wait_until_ready()
        times_ms = _times_ms(servers, rows, arguments.tags, arguments.gap_ms / 1000)
        for folder, times in zip(arguments.repositories, times_ms, strict=True):
            _print(str(folder), times, statistics.median(times_ms[0]))
        if arguments.generations:
            with _writing(second, arguments.generations):
                (busy,) = _times_ms((second,), rows, arguments.tags, arguments.gap_ms / 1000)
            _print(f"the same, {arguments.generations} generations under way", busy, statistics.median(times_ms[1]))


def _times_ms(servers: tuple[Server, ...], rows: list[dict[str, str]], n_tags: int, gap_s: float) -> list[list[float]]:
    times_ms: list[list[float]] = [[] for _ in servers]
    clients = [TaggerClient(server.url, timeout_s=10.0, budget_ms=math.inf, on_failure="raise") for server in servers]
    try:
        for i in range(n_tags):
            row = rows[i % len(rows)]
            for at in random.sample(range(len(servers)), len(servers)):
                time.sleep(gap_s)
                started = time.perf_counter()
                clients[at].tag(user_last_message=row["user_last_message"], pika_response=row["pika_response"])
                times_ms[at].append((time.perf_counter() - started) * 1000)
    finally:
        for client in clients:
            client.close()
    return times_ms


@contextmanager
def _writing(server: Server, n_generations: int) -> Iterator[None]:
    """So many answers under way all the time, each followed by the next."""
    done = threading.Event()
    ids = np.arange(100, 140, dtype=np.int32)[np.newaxis]

    def write() -> None:
        inputs = [
            InferInput(name, [1, size], "INT32")
            for name, size in (("input_ids", ids.size), ("input_lengths", 1), ("request_output_len", 1))
        ]
        for tensor, array in zip(inputs, (ids, np.array([[ids.size]], np.int32), np.array([[ANSWER_TOKENS]], np.int32)), strict=True):
            tensor.set_data_from_numpy(array)
        with InferenceServerClient(server.url) as triton:
            while not done.is_set():
                triton.infer("tensorrt_llm", inputs)

    threads = [threading.Thread(target=write) for _ in range(n_generations)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _print(name: str, times_ms: list[float], reference_ms: float) -> None:
    p50, p95 = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
    print(f"{name}: p50 {p50:.2f} ms, p95 {p95:.2f} ms, ratio {p50 / reference_ms:.3f}", flush=True)


if __name__ == "__main__":
    main()
