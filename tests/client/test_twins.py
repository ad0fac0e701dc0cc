"""The two clients have one surface, and each keeps to its own process and its own event loop."""

import asyncio
import inspect
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pika_tagger
from pika_tagger import AsyncTaggerClient, ClientClosedError, TaggerClient
from tests.client.fake_server import FakeServer
from tests.client.test_budget import wait_for
from tests.support.fake_triton import Reply, Request

OTHER_NAME = {"__aenter__": "__enter__", "__aexit__": "__exit__"}


def surface(client: type) -> dict[str, list[tuple[str, object, object]]]:
    """Public methods with their arguments; names of the context manager as those of a blocking one."""
    methods = {OTHER_NAME.get(name, name): method for name, method in inspect.getmembers(client, callable)}
    return {
        name: [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()]
        for name, method in methods.items()
        if not name.startswith("_") or name in ("__init__", "__enter__", "__exit__")
    }


def test_both_have_the_same_methods_with_the_same_arguments() -> None:
    assert surface(TaggerClient) == surface(AsyncTaggerClient)
    assert {"tag", "tag_many", "health", "wait_until_ready", "server_info", "close", "__enter__"} <= surface(TaggerClient).keys()


def test_every_argument_of_tag_is_also_in_its_overloads() -> None:
    for client in (TaggerClient, AsyncTaggerClient):
        source = inspect.getsource(client)
        overloaded = source[: source.rindex("def tag(")]
        assert all(f"{name}:" in overloaded for name in list(inspect.signature(client.tag).parameters)[1:])


def test_a_cancelled_task_leaves_its_call_to_run_out(server: FakeServer) -> None:
    async def scenario() -> None:
        async with AsyncTaggerClient(server.url, timeout_s=20, budget_ms=math.inf) as tagger:
            await tagger.health()
            server.hold()
            task = asyncio.create_task(tagger.tag(user_last_message="a", pika_response="b"))
            while len(server.metadata) < 2:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert tagger.counts.unanswered == 1
            server.release()
            await asyncio.to_thread(wait_for, lambda: tagger.counts.unanswered == 0)
            assert (tagger.counts.late, server.cancelled) == (1, 0)

    asyncio.run(scenario())


def test_a_loop_whose_tasks_are_all_cancelled_leaves_no_call_behind(server: FakeServer) -> None:
    async def scenario() -> None:
        async with AsyncTaggerClient(server.url, timeout_s=20, budget_ms=math.inf) as tagger:
            await tagger.health()
            server.hold()
            task = asyncio.create_task(tagger.tag(user_last_message="a", pika_response="b"))
            while len(server.metadata) < 2:
                await asyncio.sleep(0.005)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            assert (task.cancelled(), tagger.counts.unanswered) == (True, 0)
            server.release()

    asyncio.run(scenario())


def test_tasks_of_one_loop_share_a_client_and_another_loop_is_refused(server: FakeServer) -> None:
    tagger = AsyncTaggerClient(server.url, budget_ms=math.inf)

    async def several() -> set[str]:
        tags = await asyncio.gather(*(tagger.tag(user_last_message="a", pika_response="b") for _ in range(20)))
        return {tag.emotion_name for tag in tags}

    async def another() -> None:
        with pytest.raises(ClientClosedError, match="event loop of its first call"):
            await tagger.health()

    async def first() -> None:
        assert await several() == {"proud"}
        await asyncio.to_thread(lambda: asyncio.run(another()))
        await tagger.close()

    asyncio.run(first())


FORK = """
import math, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from pika_tagger import ClientClosedError, TaggerClient

url, used = sys.argv[1], sys.argv[2] == "used"
tagger = TaggerClient(url, budget_ms=math.inf, timeout_s=20)
if used:
    tagger.health()
    under_way = ThreadPoolExecutor(1).submit(tagger.tag, user_last_message="slow", pika_response="b", budget_ms=15_000)
    while not tagger.counts.unanswered:
        time.sleep(0.001)
child = os.fork()
if child == 0:
    try:
        print("child:", tagger.health().emotion_name)
    except ClientClosedError as error:
        print("child:", error)
    tagger.close()
    sys.exit(0)
print("status:", os.waitpid(child, 0)[1])
print("parent:", tagger.tag(user_last_message="a", pika_response="b").emotion_name)
if used:
    print("under way:", under_way.result().emotion_name)
tagger.close()
"""


def slowly(request: Request) -> Reply:
    time.sleep(2.0 if request.texts["user_last_message"] == "slow" else 0.0)  # longer than a child process lives
    return Reply()


def forked(server: FakeServer, how: str) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(pika_tagger.__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, server.url, how]  # of Python 3.12, about threads and forks
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert done.stderr == ""
    return sorted(done.stdout.splitlines())


def test_a_client_that_was_used_before_a_fork_refuses_to_work_in_the_child_and_goes_on_in_the_parent(server: FakeServer) -> None:
    server.reply = slowly
    child, parent, status, under_way = forked(server, "used")
    assert "was used before the process was forked" in child
    assert "make or first use it in the new process" in child
    assert (parent, status, under_way) == ("parent: proud", "status: 0", "under way: proud")


def test_a_client_that_was_made_but_not_used_before_a_fork_works_on_both_sides(server: FakeServer) -> None:
    assert forked(server, "unused") == ["child: proud", "parent: proud", "status: 0"]


def test_threads_that_give_up_leave_nothing_behind(server: FakeServer) -> None:
    with TaggerClient(server.url, timeout_s=0.2, budget_ms=1) as tagger:
        for _ in range(200):
            tagger.tag(user_last_message="a", pika_response="b")
        wait_for(lambda: tagger.counts.unanswered == 0)
