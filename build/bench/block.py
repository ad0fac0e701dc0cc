"""A run as text, in the manner of the result block that benchmarks of servers print."""

import textwrap
from collections.abc import Iterator, Mapping

from build.bench.findings import findings
from build.bench.measure import Measured
from build.bench.metrics import TITLES, accuracy, metrics, throughput, unusable
from pika_tagger._bench import LIMITS_MS, PERCENTILES
from pika_tagger._labelled import Row
from pika_tagger._tables import share_text

WIDTH = 72
_NONE = "n/a"


def block(endpoint: str, run: Measured, rows: Mapping[int, Row]) -> Iterator[str]:
    """Return the lines of the block.

    Args:
        endpoint: its name.
        run: one run against it.
        rows: the labelled dialogues by line.
    """
    speed, right = throughput(run), accuracy(run, rows)
    yield " Serving Benchmark Result ".center(WIDTH, "=")
    yield _line("Endpoint", endpoint)
    yield _line("Requests offered", f"{len(run.answers)}, {run.name}")
    yield _line("Successful requests", str(len(run.complete)))
    for reason, count in sorted(run.failures.items()):
        yield _line(f"Failed requests, {reason}", str(count))
    yield _line("Answers that cannot be used", _NONE if right is None else str(unusable(run)))
    yield _line("Benchmark duration (s)", f"{run.load.seconds:.2f}")
    yield _line("Request throughput (req/s)", f"{speed.requests_hz:.2f}")
    yield _line("Output token throughput (tok/s)", _NONE if speed.output_tokens_hz is None else f"{speed.output_tokens_hz:.2f}")
    for limit in LIMITS_MS:
        per_second, share = run.goodput(limit)
        yield _line(f"Goodput within {limit} ms (req/s, share)", f"{per_second:.2f}, {share:.1%}")
    shares = [_NONE] if right is None else [share_text(count.accuracy) for count in right]
    yield _line("Emotion right, celebrate right", ", ".join(shares))
    for name, metric in metrics(run).items():
        short, title = TITLES[name]
        yield f" {title} ".center(WIDTH, "-")
        if metric.absent is not None:
            yield _line(f"{short} (ms)", metric.absent)
            continue
        yield _line(f"Mean {short} (ms)", f"{metric.mean_ms:.2f}")
        found = metric.percentiles_ms
        for percent in PERCENTILES:
            yield _line(f"{'Median' if percent == 50 else f'P{percent}'} {short} (ms)", f"{found[f'p{percent}']:.2f}")
        yield _line(f"Max {short} (ms)", f"{found['max']:.2f}")
    yield "=" * WIDTH


def remarks(run: Measured) -> Iterator[str]:
    """Return the lines of what is to be said about a run."""
    for finding in findings(run):
        yield from textwrap.wrap(finding.what, WIDTH, initial_indent="! ", subsequent_indent="  ")
        yield from textwrap.wrap(finding.instead, WIDTH, initial_indent="  -> ", subsequent_indent="     ")


def _line(name: str, value: str) -> str:
    return f"{name + ':':<42}{value}"
