"""What the client library costs over a bare tritonclient: the same line, asked in turns in one run, against the same server.

    .venv/bin/python benchmarks/client_overhead.py                        starts a server on the built repository of pika-tiny
    .venv/bin/python benchmarks/client_overhead.py --url localhost:8001   asks one that runs

Every round asks once in each way, in random order, so that a machine that is busy for a while is so for all. What counts is the
difference of the medians; exit status 1 if one is above `--max-ms`. The bare way reads all four outputs, as a robot would have to.
"patient" is a client whose budget leaves time for the deadline, as tools have it: it needs no second thread for a call.
"""

import argparse
import asyncio
import contextlib
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as blocking
import tritonclient.grpc.aio as asynchronous

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "client")]

from build import settings  # noqa: E402
from build.ports import free_ports  # noqa: E402
from build.serve import running  # noqa: E402
from pika_tagger import AsyncTaggerClient, TaggerClient  # noqa: E402

Taken = dict[str, list[float]]

LINE = {"user_last_message": "Dạ, con voi ăn cỏ ạ.", "pika_response": "Đúng rồi, con giỏi lắm! Voi là loài động vật ăn thực vật."}
OUTPUTS = ("emotion_name", "celebrate", "emotion_scores", "celebrate_score")
WARM_UP = 50
BUDGET_MS = 900.0


def inputs() -> list[Any]:
    """Return the line as a user of tritonclient sends it."""
    tensors = []
    for name, text in LINE.items():
        tensor = blocking.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=np.object_))
        tensors.append(tensor)
    return tensors


def read(result: Any) -> str:
    """Read all that came back, and return the emotion."""
    emotion, *_ = (result.as_numpy(name) for name in OUTPUTS)
    return str(emotion[0, 0], "utf-8")


def measure(url: str, rounds: int) -> Taken:
    """Ask in the blocking ways in turns, and return the milliseconds of each, one value a round."""
    with (
        blocking.InferenceServerClient(url) as bare,
        TaggerClient(url, budget_ms=BUDGET_MS, on_failure="raise") as ours,
        TaggerClient(url, budget_ms=math.inf, on_failure="raise") as patient,
    ):
        ways: dict[str, Callable[[], str]] = {
            "tritonclient": lambda: read(bare.infer("tagger", inputs(), client_timeout=1.0)),
            "TaggerClient": lambda: ours.tag(**LINE).emotion_name,
            "patient": lambda: patient.tag(**LINE).emotion_name,
        }
        taken: Taken = {way: [] for way in ways}
        for _ in range(WARM_UP + rounds):
            for way in random.sample(list(ways), len(ways)):
                started_s = time.perf_counter()
                ways[way]()
                taken[way].append((time.perf_counter() - started_s) * 1000)
    return taken


async def measure_async(url: str, rounds: int) -> Taken:
    """Do the same in the asynchronous ways; not at the same time, because an event loop that is there slows blocking calls down."""
    async with (
        asynchronous.InferenceServerClient(url) as bare,
        AsyncTaggerClient(url, budget_ms=BUDGET_MS, on_failure="raise") as ours,
    ):

        async def ask_bare() -> str:
            return read(await bare.infer("tagger", inputs(), client_timeout=1.0))

        async def ask_ours() -> str:
            return (await ours.tag(**LINE)).emotion_name

        ways = {"tritonclient.aio": ask_bare, "AsyncTaggerClient": ask_ours}
        taken: Taken = {way: [] for way in ways}
        for _ in range(WARM_UP + rounds):
            for way in random.sample(list(ways), len(ways)):
                started_s = time.perf_counter()
                await ways[way]()
                taken[way].append((time.perf_counter() - started_s) * 1000)
    return taken


def show(taken: Taken) -> float:
    """Print one line for each way but the first, which is the bare one, and return the largest overhead at p50 in milliseconds."""
    (bare, bare_ms), *others = ((way, statistics.median(values[WARM_UP:])) for way, values in taken.items())
    for ours, ours_ms in others:
        print(f"{bare:<17} p50 {bare_ms:7.3f} ms   {ours:<18} p50 {ours_ms:7.3f} ms   ", end="")
        print(f"overhead {ours_ms - bare_ms:+.3f} ms   ratio {ours_ms / bare_ms:.3f}", flush=True)
    return max(ours_ms - bare_ms for _, ours_ms in others)


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield the url that was given, or that of a server that is started for the time being."""
    if url is not None:
        yield url
        return
    repository = settings.model("pika-tiny").folder / "triton-cpu"
    with tempfile.TemporaryDirectory() as folder, running(repository, free_ports(), Path(folder) / "serve.log") as started:
        started.wait_until_ready()
        yield started.url


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", metavar="HOST:PORT", help="a server that runs; without it one is started")
    parser.add_argument("--rounds", metavar="N", type=int, default=1000)
    parser.add_argument("--max-ms", metavar="MS", type=float, default=0.15, help="exit 1 if the overhead at p50 is above")
    arguments = parser.parse_args()
    with server(arguments.url) as url:
        overheads_ms = [show(measure(url, arguments.rounds)), show(asyncio.run(measure_async(url, arguments.rounds)))]
    return int(max(overheads_ms) > arguments.max_ms)


if __name__ == "__main__":
    sys.exit(main())
