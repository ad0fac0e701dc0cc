"""What an overloaded tagger does: `python -m build.measure_load REPOSITORY`.

First the capacity is measured: how many tags come back in a second when there is always one waiting. Then requests are sent at fixed
multiples of it, at random moments and without waiting for answers, as many robots would. A tag that is accepted should take about as long
as at capacity; the others should be refused at once. Server and sender share the machine: where the sender is late itself, which is
printed, its figures say more about the machine than about the server.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2, service_pb2_grpc

from build import settings
from build.evaluate import DIALOGUES
from build.ports import free_ports
from build.repository import tagger_instances
from build.serve import running

STALL_MS = 400.0
"""Far above any queue here and below the half second that some queue policies of tritonserver make a request wait."""

Send = Callable[[], Awaitable["Answer"]]


@dataclass(frozen=True)
class Answer:
    """What became of a request, and how long after it was sent."""

    status: str
    duration_ms: float
    late_ms: float = 0.0
    """How much later than planned it was sent."""


def main() -> None:
    """Print one line for each load."""
    parser = argparse.ArgumentParser(description="Send more requests than a tagger on target cpu can answer, and see what becomes of them.")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--loads", type=float, nargs="+", default=[1.0, 2.0, 10.0], help="multiples of the capacity")
    parser.add_argument("--duration-s", type=float, default=20.0, help="of each load")
    arguments = parser.parse_args()
    random.seed(1)
    with running(arguments.repository, free_ports(), Path(tempfile.mkdtemp(prefix="measure-load-")) / "serve.log") as server:
        server.wait_until_ready()
        asyncio.run(_measure(server.url, arguments.loads, arguments.duration_s))


async def _measure(url: str, loads: Sequence[float], duration_s: float) -> None:
    async with grpc.aio.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        requests = _requests()

        async def send() -> Answer:
            started = time.perf_counter()
            try:
                await stub.ModelInfer(random.choice(requests))
            except grpc.aio.AioRpcError as error:
                return Answer(error.code().name, (time.perf_counter() - started) * 1000)
            return Answer("OK", (time.perf_counter() - started) * 1000)

        alone = await _always(send, 1, duration_s)
        _print("one at a time", duration_s, alone)
        busy = await _always(send, tagger_instances(settings.target("cpu")) + 1, duration_s)
        _print("one always waiting", duration_s, busy)
        capacity_per_s = sum(answer.status == "OK" for answer in busy) / duration_s
        for load in loads:
            rate_per_s = load * capacity_per_s
            _print(f"{load:g} x capacity, {rate_per_s:.0f}/s", duration_s, await _at_rate(send, rate_per_s, duration_s))


async def _always(send: Send, n: int, duration_s: float) -> list[Answer]:
    """`n` senders, each of which sends the next request when it has its answer."""
    end = time.perf_counter() + duration_s

    async def sender() -> list[Answer]:
        answers = []
        while time.perf_counter() < end:
            answers.append(await send())
        return answers

    return [answer for answers in await asyncio.gather(*(sender() for _ in range(n))) for answer in answers]


async def _at_rate(send: Send, rate_per_s: float, duration_s: float) -> list[Answer]:
    """Requests that come independently of each other and of the answers."""

    async def send_late(due: float) -> Answer:
        late_ms = (time.perf_counter() - due) * 1000
        return replace(await send(), late_ms=late_ms)

    pending = []
    due = started = time.perf_counter()
    while due < started + duration_s:
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        pending.append(asyncio.ensure_future(send_late(due)))
        due += random.expovariate(rate_per_s)
    return list(await asyncio.gather(*pending))


def _requests() -> list[service_pb2.ModelInferRequest]:
    """One for each dialogue of the evaluation, made beforehand, so that sending costs little."""
    requests = []
    for line in DIALOGUES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        request = service_pb2.ModelInferRequest(model_name="tagger")
        for name in ("user_last_message", "pika_response"):
            tensor = request.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
            tensor.contents.bytes_contents.append(row[name].encode())
        requests.append(request)
    return requests


def _print(name: str, duration_s: float, answers: Sequence[Answer]) -> None:
    accepted = [answer.duration_ms for answer in answers if answer.status == "OK"]
    refused = [answer.duration_ms for answer in answers if answer.status == "UNAVAILABLE"]
    stalls = sum(answer.duration_ms > STALL_MS for answer in answers)
    words = [
        f"{name}: {len(answers) / duration_s:.0f} sent and {len(accepted) / duration_s:.0f} tagged a second, {_spread(accepted)}",
        f"{len(refused) / len(answers):.0%} refused" + (f", {_spread(refused)}" if refused else ""),
        f"{len(answers) - len(accepted) - len(refused)} failed otherwise",
        f"{stalls} took longer than {STALL_MS:.0f} ms",
        f"half were sent {statistics.median(answer.late_ms for answer in answers):.1f} ms late or more",
    ]
    print("; ".join(words), flush=True)


def _spread(durations_ms: Sequence[float]) -> str:
    *_, p95 = statistics.quantiles(durations_ms, n=20)
    return f"p50 {statistics.median(durations_ms):.1f} ms, p95 {p95:.1f} ms, max {max(durations_ms):.1f} ms"


if __name__ == "__main__":
    main()
