"""What tagger, Triton and gRPC cost above the engine's own pass: both in one run, in turns, and where the time goes.

    .venv/bin/python benchmarks/overhead.py                  back to back
    .venv/bin/python benchmarks/overhead.py --gap-ms 500     as a robot asks

A round is a pass of the engine in this process, an empty call of the server and a tag over gRPC, in random order, so that a machine that is
busy for a while is so for all three. What counts is the difference of the medians of tag and pass; exit status 1 if it is above `--max-ms`.
Then the parts of a tag, which are means, because Triton counts sums.
"""

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "client")]

from tritonclient.grpc import InferenceServerClient  # noqa: E402

from build import settings  # noqa: E402
from build.evaluate import DIALOGUES  # noqa: E402
from build.serve import Server, free_ports, running  # noqa: E402
from cpu_engine import CpuEngine  # noqa: E402
from one_pass import CodeTable, Dialogue, Prompt, Task, TextCodec  # noqa: E402
from pika_tagger import TaggerClient  # noqa: E402

MODEL = settings.model("pika-tiny")
REPOSITORY = MODEL.folder / "triton-cpu"
WARM_UP = 50
PASS, EMPTY, TAG = "engine's pass", "empty call", "tag"
STAGES = ("queue", "compute_input", "compute_infer", "compute_output", "request")
"""What Triton counts for each model, as `nv_inference_STAGE_duration_us`: docs/user_guide/metrics.md of its server."""

Taken = dict[str, list[float]]


class InProcess:
    """What the server does for a tag, without a server: prompt, pass, reading."""

    def __init__(self) -> None:
        self._prompt = Prompt(Task.load(MODEL.task_file), TextCodec.load(REPOSITORY / "tagger" / "1" / "tokenizer.json"), 32)
        self._codes = CodeTable(self._prompt.task, self._prompt.codec)
        self._sequence = CpuEngine(REPOSITORY / "tensorrt_llm" / "1" / "engine").new_sequence()
        self.around_ms: list[float] = []
        """What prompt and reading took, tag by tag."""

    def one_pass(self, dialogue: Dialogue) -> float:
        """Return the milliseconds of the pass alone."""
        times_s = [time.perf_counter()]
        ids = self._prompt.encode(dialogue)
        times_s.append(time.perf_counter())
        logits = self._sequence.one_pass(ids).logits
        times_s.append(time.perf_counter())
        self._codes.read(logits)
        times_s.append(time.perf_counter())
        encoding_ms, pass_ms, reading_ms = ((after - before) * 1000 for before, after in itertools.pairwise(times_s))
        self.around_ms.append(encoding_ms + reading_ms)
        return pass_ms


def measure(server: Server, dialogues: list[Dialogue], rounds: int, gap_s: float) -> tuple[Taken, float, dict[str, dict[str, float]]]:
    """Do so many rounds after a warm-up.

    Returns:
        Milliseconds of each way, one value a round; the mean of what is done around a pass in milliseconds; and by model, the mean
        milliseconds of a tag in each of STAGES.
    """
    own = InProcess()
    with TaggerClient(server.url, timeout_s=10.0) as client, InferenceServerClient(server.url) as bare:

        def timed(call: Callable[[], object]) -> float:
            started_s = time.perf_counter()
            call()
            return (time.perf_counter() - started_s) * 1000

        ways: dict[str, Callable[[Dialogue], float]] = {
            PASS: own.one_pass,
            EMPTY: lambda _: timed(bare.is_server_live),
            TAG: lambda dialogue: timed(lambda: client.tag(**vars(dialogue))),
        }
        taken: Taken = {way: [] for way in ways}
        before = {model: counted(server, model) for model in ("tagger", "tensorrt_llm")}
        for number in range(-WARM_UP, rounds):
            if number == 0:
                taken = {way: [] for way in ways}
                own.around_ms.clear()
                before = {model: counted(server, model) for model in before}
            for way in random.sample(list(ways), len(ways)):
                time.sleep(gap_s)
                taken[way].append(ways[way](dialogues[number % len(dialogues)]))
        after = {model: counted(server, model) for model in before}
    stages = {model: {stage: (after[model][stage] - before[model][stage]) / rounds for stage in STAGES} for model in before}
    return taken, statistics.fmean(own.around_ms), stages


def counted(server: Server, model: str) -> dict[str, float]:
    """Milliseconds that all requests to a model have spent in each of STAGES so far, by the server's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics_port}/metrics") as response:
        lines = response.read().decode().splitlines()
    found = {}
    for stage in STAGES:
        (line,) = (line for line in lines if line.startswith(f'nv_inference_{stage}_duration_us{{model="{model}"'))
        found[stage] = float(line.split()[-1]) / 1000
    return found


def parts(taken: Taken, around_ms: float, stages: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the parts of a tag in milliseconds, from the client to the engine; they add up to a tag's mean."""
    tagger, engine = stages["tagger"], stages["tensorrt_llm"]
    tag, empty, own_pass = (statistics.fmean(taken[way]) for way in (TAG, EMPTY, PASS))
    return {
        "gRPC: an empty call": empty,
        "gRPC: what a tag's call costs more, and the client": tag - tagger["request"] - empty,
        "tagger: queue": tagger["queue"],
        "tagger: tensors in and out": tagger["compute_input"] + tagger["compute_output"],
        "tagger: prompt and reading": around_ms,
        "tagger to engine and back": tagger["compute_infer"] - around_ms - engine["request"],
        "engine model: queue": engine["queue"],
        "engine model: tensors in and out": engine["compute_input"] + engine["compute_output"],
        "engine model: around the pass": engine["compute_infer"] - own_pass,
        "engine's pass": own_pass,
        "what Triton counts nowhere": sum(model["request"] - sum(model[stage] for stage in STAGES[:-1]) for model in (tagger, engine)),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", metavar="N", type=int, default=1000)
    parser.add_argument("--gap-ms", metavar="MS", type=float, default=0.0, help="pause before each call")
    parser.add_argument("--max-ms", metavar="MS", type=float, default=1.0, help="exit 1 if the overhead at p50 is above")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    dialogues = [Dialogue(row["user_last_message"], row["pika_response"]) for row in rows]
    with tempfile.TemporaryDirectory() as folder, running(REPOSITORY, free_ports(), Path(folder) / "serve.log") as server:
        server.wait_until_ready()
        measured = measure(server, dialogues, arguments.rounds, arguments.gap_ms / 1000)
    for way, times_ms in measured[0].items():
        cuts_ms = statistics.quantiles(times_ms, n=100)
        print(f"{way:<14} p50 {cuts_ms[49]:6.2f} ms   p95 {cuts_ms[94]:6.2f} ms   p99 {cuts_ms[98]:6.2f} ms")
    overhead_ms = statistics.median(measured[0][TAG]) - statistics.median(measured[0][PASS])
    print(f"overhead at p50 {overhead_ms:.2f} ms\n\nmeans:")
    for part, ms in parts(*measured).items():
        print(f"{part:<52}{ms:7.3f} ms")
    return int(overhead_ms > arguments.max_ms)


if __name__ == "__main__":
    sys.exit(main())
