"""What tagger, Triton and gRPC cost above the engine's own pass: both in one run, in turns, and where the time goes.

    .venv/bin/python benchmarks/overhead.py                  back to back
    .venv/bin/python benchmarks/overhead.py --gap-ms 500     as a robot asks

A round is a pass of the engine in this process, an empty call of the server and a tag, in random order, so that a machine that is busy for
a while is so for all three. Both calls are ready-made gRPC messages: what a client library costs on top is not in them. What counts is the
difference of the medians of tag and pass; exit status 1 if it is above `--max-ms`. Then the parts of a tag: Triton counts sums, so each is
a mean over a block of rounds, and the median of the blocks is shown.
"""

import argparse
import itertools
import json
import random
import statistics
import struct
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "client")]

import grpc  # type: ignore[import-untyped]  # noqa: E402
from tritonclient.grpc import service_pb2  # noqa: E402

from build import settings  # noqa: E402
from build.evaluate import DIALOGUES  # noqa: E402
from build.ports import free_ports  # noqa: E402
from build.serve import Server, running  # noqa: E402
from cpu_engine import CpuEngine  # noqa: E402
from one_pass import CodeTable, Dialogue, Prompt, Task, TextCodec  # noqa: E402

MODEL = settings.model("pika-tiny")
TOKENS_PER_BLOCK = 32
BLOCK_ROUNDS = 20
WARM_UP_BLOCKS = 3
MODELS = ("tagger", "tensorrt_llm")
PASS, EMPTY, TAG = "engine's pass", "empty call", "tag"
STAGES = ("queue", "compute_input", "compute_infer", "compute_output", "request")
"""What Triton counts for each model, as `nv_inference_STAGE_duration_us`: docs/user_guide/metrics.md of its server."""

TimesMs = dict[str, list[float]]


@dataclass(frozen=True)
class Counted:
    """What the server has counted of a model so far: requests that were answered, and the milliseconds of all of them in each of STAGES."""

    requests: int
    stages_ms: dict[str, float]


class InProcess:
    """What the server does for a tag, without a server: prompt, pass, reading."""

    def __init__(self, repository: Path) -> None:
        """Load what the repository has."""
        codec = TextCodec.load(repository / "tagger" / "1" / "tokenizer.json")
        self._prompt = Prompt(Task.load(repository / "tagger" / "1" / "task.toml"), codec, TOKENS_PER_BLOCK)
        self._codes = CodeTable(self._prompt.task, codec)
        self._sequence = CpuEngine(repository / "tensorrt_llm" / "1" / "engine").new_sequence()
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


class Calls:
    """Calls of the server by messages that are made beforehand."""

    def __init__(self, channel: grpc.Channel, dialogues: list[Dialogue]) -> None:
        """Make the messages."""
        self._live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        self._infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self._messages = {dialogue: message(dialogue) for dialogue in dialogues}

    def empty(self, _: Dialogue) -> float:
        """Return the milliseconds of a call that does nothing."""
        return timed(lambda: self._live(b"", timeout=10.0))

    def tag(self, dialogue: Dialogue) -> float:
        """Return the milliseconds of a tag."""
        return timed(lambda: self._infer(self._messages[dialogue], timeout=10.0))


def message(dialogue: Dialogue) -> bytes:
    """Return the request of a tag as it goes over the wire."""
    request = service_pb2.ModelInferRequest(model_name="tagger")
    for name in ("user_last_message", "pika_response"):
        text = getattr(dialogue, name).encode()
        request.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
        request.raw_input_contents.append(struct.pack("<I", len(text)) + text)
    return bytes(request.SerializeToString())


def timed(call: Callable[[], object]) -> float:
    """Return how many milliseconds a call takes."""
    started_s = time.perf_counter()
    call()
    return (time.perf_counter() - started_s) * 1000


def measure(server: Server, repository: Path, dialogues: list[Dialogue], blocks: int, gap_s: float) -> tuple[TimesMs, TimesMs]:
    """Do so many blocks of rounds after a warm-up, and return the times of each way, one a round, and of each part, one a block."""
    own = InProcess(repository)
    with grpc.insecure_channel(server.url) as channel:
        calls = Calls(channel, dialogues)
        ways: dict[str, Callable[[Dialogue], float]] = {PASS: own.one_pass, EMPTY: calls.empty, TAG: calls.tag}
        taken_ms: TimesMs = {way: [] for way in ways}
        parts_ms: TimesMs = {}
        asked = itertools.cycle(dialogues)
        before = {model: counted(server, model) for model in MODELS}
        for number in range(-WARM_UP_BLOCKS, blocks):
            own.around_ms.clear()
            block_ms: TimesMs = {way: [] for way in ways}
            for dialogue in itertools.islice(asked, BLOCK_ROUNDS):
                for way in random.sample(list(ways), len(ways)):
                    time.sleep(gap_s)
                    block_ms[way].append(ways[way](dialogue))
            after = {model: counted(server, model, before[model].requests + BLOCK_ROUNDS) for model in MODELS}
            stages = {
                model: {stage: (after[model].stages_ms[stage] - before[model].stages_ms[stage]) / BLOCK_ROUNDS for stage in STAGES}
                for model in MODELS
            }
            before = after
            if number < 0:
                continue
            means = {way: statistics.fmean(block_ms[way]) for way in ways}
            for part, ms in parts(means, statistics.fmean(own.around_ms), stages["tagger"], stages["tensorrt_llm"]).items():
                parts_ms.setdefault(part, []).append(ms)
            for way, times_ms in block_ms.items():
                taken_ms[way] += times_ms
    return taken_ms, parts_ms


def counted(server: Server, model: str, least_requests: int = 0) -> Counted:
    """Return what the server's metrics say of a model, once they know of so many requests: Triton counts after it has answered."""
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics_port}/metrics") as response:
            lines = response.read().decode().splitlines()
        found = {}
        for name in ("request_success", *(f"{stage}_duration_us" for stage in STAGES)):
            (line,) = (line for line in lines if line.startswith(f'nv_inference_{name}{{model="{model}"'))
            found[name] = float(line.split()[-1])
        requests = int(found["request_success"])
        if requests >= least_requests:
            return Counted(requests, {stage: found[f"{stage}_duration_us"] / 1000 for stage in STAGES})
        time.sleep(0.001)


def parts(means: dict[str, float], around_ms: float, tagger: dict[str, float], engine: dict[str, float]) -> dict[str, float]:
    """Return the parts of a tag in milliseconds, from the client to the engine; they add up to a tag's mean.

    Triton takes the time of a request's end after it has sent the answer. So where one part ends and the next begins is not sharp, and what
    a call costs above what the server counted can be less than nothing.

    Args:
        means: of each way.
        around_ms: of prompt and reading.
        tagger: mean milliseconds of a tag in each of STAGES of that model.
        engine: likewise of the model `tensorrt_llm`.
    """
    return {
        "gRPC: an empty call": means[EMPTY],
        "gRPC: a tag's call above an empty one": means[TAG] - tagger["request"] - means[EMPTY],
        "tagger: queue, tensors in and out": tagger["request"] - tagger["compute_infer"],
        "tagger: prompt and reading": around_ms,
        "tagger: to the engine model and back": tagger["compute_infer"] - around_ms - engine["request"],
        "engine model: queue, tensors in and out": engine["request"] - engine["compute_infer"],
        "engine model: around the pass": engine["compute_infer"] - means[PASS],
        PASS: means[PASS],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repository", metavar="DIR", type=Path, default=MODEL.folder / "triton-cpu")
    parser.add_argument("--rounds", metavar="N", type=int, default=2000)
    parser.add_argument("--gap-ms", metavar="MS", type=float, default=0.0, help="pause before each call")
    parser.add_argument("--max-ms", metavar="MS", type=float, default=1.0, help="exit 1 if the overhead at p50 is above")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    dialogues = [Dialogue(row["user_last_message"], row["pika_response"]) for row in rows]
    with tempfile.TemporaryDirectory() as folder, running(arguments.repository, free_ports(), Path(folder) / "serve.log") as server:
        server.wait_until_ready()
        blocks = max(1, arguments.rounds // BLOCK_ROUNDS)
        taken_ms, parts_ms = measure(server, arguments.repository, dialogues, blocks, arguments.gap_ms / 1000)
    for way, times_ms in taken_ms.items():
        cuts_ms = statistics.quantiles(times_ms, n=100)
        print(f"{way:<14}", *(f"  p{percent} {cuts_ms[percent - 1]:6.2f} ms" for percent in (10, 50, 95, 99)))
    overhead_ms = statistics.median(taken_ms[TAG]) - statistics.median(taken_ms[PASS])
    print(f"overhead at p50 {overhead_ms:.2f} ms\n\nmedians of the means of {blocks} blocks:")
    for part, ms in parts_ms.items():
        print(f"{part:<42}{statistics.median(ms):7.3f} ms")
    return int(overhead_ms > arguments.max_ms)


if __name__ == "__main__":
    sys.exit(main())
