"""The command `pika-tag bench`: which runs are made, in which order, and what is checked of them."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

from pika_tagger._bench import Run
from pika_tagger._client import TaggerClient
from pika_tagger._evaluate import latencies
from pika_tagger._load import Load, Sample, asking, closed_loop, poisson
from pika_tagger._server_split import between, forget_prefix, splits
from pika_tagger._types import Dialogue

_WARM_UP = 10


def planned(arguments: argparse.Namespace) -> int:
    """Return how many runs there will be."""
    return len(arguments.concurrency) + len(arguments.rate) + int(arguments.cold)


def runs(tagger: TaggerClient, arguments: argparse.Namespace, dialogues: list[Dialogue]) -> Iterator[Run]:
    """Make the runs one after the other: closed loops, then Poisson arrivals, then with a cold prefix."""
    ask, requests = asking(tagger, dialogues), arguments.requests
    closed_loop(ask, 1, _WARM_UP, _nothing)
    for callers in arguments.concurrency:
        yield _run(tagger, f"{callers} at a time", partial(closed_loop, ask, callers, requests, _nothing))
    for rate_hz in arguments.rate:
        yield _run(tagger, f"{rate_hz:g}/s", partial(poisson, ask, rate_hz, requests, arguments.seed))
    if arguments.cold:
        yield _run(tagger, "cold prefix", partial(closed_loop, ask, 1, requests, partial(forget_prefix, tagger)))


def missed(found: list[Run], max_p95_ms: float | None) -> Iterator[str]:
    """Return one sentence for every run in which requests failed, or that was slower than wanted."""
    for run in found:
        if run.failures:
            yield f"{run.name}: {sum(run.failures.values())} of {len(run.load.samples)} requests failed"
        p95_ms = latencies(run.answered_ms).get("p95")
        if max_p95_ms is not None and p95_ms is not None and p95_ms > max_p95_ms:
            yield f"{run.name}: p95 of {p95_ms:.1f} ms is above the wanted {max_p95_ms:g}"


def _run(tagger: TaggerClient, name: str, make: Callable[[], Load[Sample]]) -> Run:
    before = splits(tagger)
    load = make()
    return Run(name, load, between(before, splits(tagger)))


def _nothing() -> None:
    pass
