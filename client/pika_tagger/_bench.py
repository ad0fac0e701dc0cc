"""What a benchmark found, run by run: percentiles, goodput, failures, and the split inside the server.

A run is one way of asking (`_load`). The report file holds the same figures as the table.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pika_tagger._evaluate import latencies
from pika_tagger._load import Load, Sample

PERCENTILES = (50, 90, 95, 99)
LIMITS_MS = (25, 50)


@dataclass(frozen=True)
class Run:
    """One way of asking, and what came of it.

    Attributes:
        name: Such as "2 at a time" or "20/s".
        load: The requests.
        split: By model, mean milliseconds in each phase, and the number of requests that Triton counted meanwhile.
    """

    name: str
    load: Load[Sample]
    split: dict[str, dict[str, float]]

    @property
    def answered_ms(self) -> list[float]:
        """Latencies of the requests that got a tag."""
        return [sample.latency_ms for sample in self.load.samples if sample.failure is None]

    @property
    def failures(self) -> dict[str, int]:
        """How many requests failed, by reason."""
        return dict(Counter(sample.failure for sample in self.load.samples if sample.failure is not None))

    def goodput(self, limit_ms: float) -> tuple[float, float]:
        """Return tags within `limit_ms`: how many a second, and which share of all requests."""
        good = sum(latency_ms <= limit_ms for latency_ms in self.answered_ms)
        return good / self.load.seconds, good / len(self.load.samples)

    def json(self) -> dict[str, Any]:
        """Return the run as it stands in the report file."""
        goodput = {f"{limit}_ms": dict(zip(("per_second", "share"), self.goodput(limit), strict=True)) for limit in LIMITS_MS}
        return {
            "name": self.name,
            "requests": len(self.load.samples),
            "seconds": self.load.seconds,
            "failures": self.failures,
            "latency_ms": latencies(self.answered_ms, PERCENTILES),
            "goodput": goodput,
            "server": self.split,
        }


def table(runs: Sequence[Run]) -> Iterator[str]:
    """Return the lines of the report."""
    heads = [*(f"p{percent}" for percent in PERCENTILES), "max"]
    yield (
        f"{'':<16}{'requests':>9}{'tags/s':>8}"
        + "".join(f"{head:>8}" for head in heads)
        + "".join(f"{f'<={limit} ms':>10}" for limit in LIMITS_MS)
    )
    for run in runs:
        found = latencies(run.answered_ms, PERCENTILES)
        times = "".join(f"{found[head]:>8.1f}" if found else f"{'-':>8}" for head in heads)
        shares = "".join(f"{run.goodput(limit)[1]:>10.1%}" for limit in LIMITS_MS)
        yield f"{run.name:<16}{len(run.load.samples):>9}{len(run.answered_ms) / run.load.seconds:>8.1f}{times}{shares}"
        if run.failures:
            yield "  failed: " + ", ".join(f"{count} {reason}" for reason, count in sorted(run.failures.items()))
    yield "\nlatency in ms; <= N ms: share of all requests that had a tag by then"
    yield from _split_lines(runs)


def _split_lines(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        for model, split in run.split.items():
            phases = "   ".join(f"{name.removesuffix('_ms')} {value:.2f}" for name, value in split.items() if name != "requests")
            yield f"server, {run.name}, {model}: {phases}   (mean ms of {split['requests']:.0f} requests)"
