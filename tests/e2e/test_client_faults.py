"""Several real tritonservers, one of which is killed, stopped or started anew under steady load: every line gets exactly one result."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest
from tritonclient.grpc import InferenceServerClient

from build.ports import free_ports
from build.serve import Server, running
from build.server_options import GRPC_KEY_HEADER
from pika_tagger import Tag, TaggerClient
from tests.client.twins import TWINS, Make

pytestmark = pytest.mark.e2e

RATE_HZ = 50
BUDGET_MS = 2000.0
"""Wide, so that a slow machine does not turn into fallbacks: what is tested is that nothing is lost, not how fast it is."""
PATIENCE_S = 60.0


@dataclass
class Fleet:
    """Real servers, by place; one that was killed can be started again on its port."""

    repository: Path
    folder: Path
    servers: list[Server]
    _stack: contextlib.ExitStack

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def start(self, place: int, ports: Any) -> None:
        server = self._stack.enter_context(running(self.repository, ports, self.folder / f"{place}-{time.monotonic_ns()}.log"))
        self.servers[place : place + 1] = [server]
        server.wait_until_ready()

    def kill(self, place: int) -> None:
        """Kill a server while calls are under way in it: it is stopped for as long as a few of them take to arrive."""
        os.kill(self.servers[place].process.pid, signal.SIGSTOP)
        time.sleep(10 / RATE_HZ)
        os.kill(self.servers[place].process.pid, signal.SIGKILL)
        self.servers[place].process.wait()

    def restart(self, place: int) -> None:
        self.servers[place].kill()  # what it has left, as `doit serve` does: a stub that waits for its engine outlives a killed server
        self.start(place, self.servers[place].ports)

    def roll(self) -> None:
        """Restart one after the other as docs/client.md says: ask to stop, wait for the end, start, wait for a tag."""
        for place in range(len(self.servers)):
            self.servers[place].process.terminate()
            assert self.servers[place].process.wait(PATIENCE_S) == 0
            self.restart(place)

    def answered(self) -> list[int]:
        """How many tags each server has given since it was started."""
        counts = []
        for server in self.servers:
            with InferenceServerClient(server.url) as asking:
                found = asking.get_inference_statistics("tagger", headers={GRPC_KEY_HEADER: server.access.admin_key})
                counts.append(int(found.model_stats[0].inference_stats.success.count))
        return counts


@contextlib.contextmanager
def fleet(repository: Path, folder: Path, count: int) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        made = Fleet(repository, folder, [], stack)
        for place in range(count):
            made.start(place, free_ports())
        yield made


def dialogue(number: int) -> dict[str, str]:
    return {"user_last_message": f"{number} cộng một bằng {number + 1}", "pika_response": "Chính xác! Cậu giỏi quá!"}


def ask(tagger: TaggerClient, number: int) -> Tag:
    return tagger.tag(**dialogue(number))


def steadily(tagger: TaggerClient, count: int, events: dict[int, Callable[[], None]]) -> list[Tag]:
    """Ask `count` times at `RATE_HZ` however long answers take, cause the events at their places, and return the results in order."""
    with ThreadPoolExecutor(64) as pool:
        futures = []
        started_s = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, started_s + number / RATE_HZ - time.monotonic()))
            if number in events:
                threading.Thread(target=events[number]).start()
            futures.append(pool.submit(ask, tagger, number))
        return [future.result() for future in futures]


def expected(url: str, count: int) -> list[str]:
    with TaggerClient(url, budget_ms=60_000, timeout_s=60, on_failure="raise") as tagger:
        return [tagger.tag(**dialogue(number)).json() for number in range(count)]


@pytest.mark.parametrize(("count", "twin"), [(2, "asynchronous"), (3, "blocking")])
def test_a_server_that_is_killed_under_load_loses_no_tag(repository: Path, tmp_path: Path, count: int, twin: str) -> None:
    asked = 300
    with fleet(repository, tmp_path, count) as servers:
        right = expected(servers.urls[-1], asked)
        with TWINS[twin](servers.urls, budget_ms=BUDGET_MS, timeout_s=10.0) as tagger:
            tagger.wait_until_ready(PATIENCE_S)
            tags = steadily(tagger, asked, {100: lambda: servers.kill(0)})
            counts = tagger.counts
        assert len(tags) == asked
        wrong = [number for number, tag in enumerate(tags) if not tag.fallback and tag.json() != right[number]]
        assert wrong == []
        assert [tag.fallback_reason for tag in tags if tag.fallback] == []
        assert (counts.tags, counts.late) == (asked, 0)
        assert counts.retried > 0  # or nothing was under way when the server died, and nothing has been shown


def test_a_server_that_comes_back_is_asked_again(repository: Path, tmp_path: Path) -> None:
    with fleet(repository, tmp_path, 2) as servers, TaggerClient(servers.urls, budget_ms=BUDGET_MS, timeout_s=10.0) as tagger:
        tagger.wait_until_ready(PATIENCE_S)
        servers.kill(0)
        assert not any(tag.fallback for tag in steadily(tagger, 50, {}))
        servers.restart(0)
        servers.kill(1)
        give_up_s = time.monotonic() + PATIENCE_S
        while tagger.tag(**dialogue(1)).fallback:
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        assert not any(tag.fallback for tag in steadily(tagger, 50, {}))


def test_with_all_servers_dead_every_line_still_gets_a_marked_fallback_and_tags_return_with_a_server(
    repository: Path, tmp_path: Path
) -> None:
    with fleet(repository, tmp_path, 2) as servers, TaggerClient(servers.urls, budget_ms=BUDGET_MS, timeout_s=10.0) as tagger:
        tagger.wait_until_ready(PATIENCE_S)
        for place in (0, 1):
            servers.kill(place)
        assert {tag.fallback_reason for tag in steadily(tagger, 50, {})} == {"unreachable"}
        servers.restart(1)
        tagger.wait_until_ready(PATIENCE_S)
        assert not any(tag.fallback for tag in steadily(tagger, 50, {}))


def test_a_server_that_hangs_costs_the_budget_and_no_more(repository: Path, tmp_path: Path) -> None:
    with fleet(repository, tmp_path, 2) as servers:
        hung = servers.servers[0].process.pid
        with TaggerClient(servers.urls, budget_ms=200.0, timeout_s=2.0, max_unanswered=32) as tagger:
            tagger.wait_until_ready(PATIENCE_S)
            try:
                tags = steadily(tagger, 100, {20: lambda: os.kill(hung, signal.SIGSTOP)})
            finally:
                os.kill(hung, signal.SIGCONT)
            assert len(tags) == 100
            assert {tag.fallback_reason for tag in tags} <= {None, "late", "busy"}
            assert any(tag.fallback for tag in tags[30:])
            assert any(not tag.fallback for tag in tags[30:])
            give_up_s = time.monotonic() + PATIENCE_S
            while tagger.counts.unanswered:
                assert time.monotonic() < give_up_s
                time.sleep(0.05)


def spread(tags: list[Tag]) -> str:
    """For docs/client.md."""
    *_, p99_ms = quantiles((tag.latency_ms for tag in tags), n=100)
    over = sum(tag.latency_ms > 50 for tag in tags)
    return f"{len(tags)} tags, p50 {median(tag.latency_ms for tag in tags):.1f} ms, p99 {p99_ms:.1f} ms, {over} above 50 ms"


@pytest.mark.skipif("PIKA_ROLL" not in os.environ, reason="takes about a minute for each client; any PIKA_ROLL will do")
@pytest.mark.parametrize("make", TWINS.values(), ids=list(TWINS))
def test_a_rolling_restart_under_load_loses_no_tag(repository: Path, tmp_path: Path, make: Make) -> None:
    second = RATE_HZ
    with fleet(repository, tmp_path, 3) as servers, make(servers.urls, budget_ms=BUDGET_MS, timeout_s=10.0) as tagger:
        right = expected(servers.urls[0], second)
        tagger.wait_until_ready(PATIENCE_S)
        before = steadily(tagger, 10 * second, {})
        tags = []
        with ThreadPoolExecutor(1) as operator:
            rolling = operator.submit(servers.roll)
            while not rolling.done():
                tags += steadily(tagger, second, {})
            rolling.result()
            # In this block, because what the operator's thread has started ends with that thread.
            tags += steadily(tagger, 3 * second, {})
            assert min(servers.answered()) > second / 2  # all of them are back at work
        print(f"before: {spread(before)}; while three servers were restarted in turn: {spread(tags)}; {tagger.counts}", flush=True)
        assert [tag.fallback_reason for tag in tags if tag.fallback] == []
        assert [tag.json() for tag in tags[:second]] == right
        assert tagger.counts.tags == len(before) + len(tags)


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif("PIKA_SOAK_S" not in os.environ, reason="takes as long as PIKA_SOAK_S says, in seconds; 600 for the whole")
def test_soak_with_random_kills_keeps_memory_flat_and_misses_no_result(repository: Path, tmp_path: Path) -> None:
    rounds = max(int(float(os.environ["PIKA_SOAK_S"]) / 20), 3)
    chance = random.Random(20)
    with fleet(repository, tmp_path, 2) as servers, TaggerClient(servers.urls, budget_ms=50.0, timeout_s=1.0) as tagger:
        tagger.wait_until_ready(PATIENCE_S)
        used_bytes, results = [], 0
        for _ in range(rounds):
            place = chance.randrange(2)
            tags = steadily(tagger, 20 * RATE_HZ, {chance.randrange(50, 200): lambda place=place: servers.kill(place)})  # type: ignore[misc]
            results += len(tags)
            servers.restart(place)
            used_bytes.append(memory_bytes())
            print(f"{results} results, {tagger.counts}, {used_bytes[-1] >> 20} MiB", flush=True)
        assert results == rounds * 20 * RATE_HZ == tagger.counts.tags + sum(tagger.counts.fallbacks.values())
        first_third, last_third = used_bytes[rounds // 3], used_bytes[-1]
        assert last_third - first_third < 8 << 20, [each >> 20 for each in used_bytes]
