"""The servers of a fleet: how long each is busy with the requests that it takes at once.

Two kinds. Of target cpu the times were measured, one request after the other. Of a GPU they are what `build.roofline` expects on paper:
with inflight batching, requests of one token that wait for a pass go into the next one together. Another kind is a class with the same
members.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from build import roofline
from build.errors import SourceError
from build.fleet import Seconds
from build.gpu_specs import GpuSpec
from build.model_size import FORMATS, PHI_3_MINI
from build.roofline import Efficiency, Workload


class Server(Protocol):
    """A kind of server."""

    @property
    def name(self) -> str:
        """For the tables."""

    @property
    def most(self) -> int:
        """How many requests it takes at once."""

    @property
    def tags_per_s(self) -> float:
        """As many as it can give when there are always enough to do."""

    def seconds(self, requests: int, rng: np.random.Generator) -> Seconds:
        """How long it is busy with any of so many requests."""


@dataclass(frozen=True)
class OneByOne:
    """One request at a time; each takes one of the times, each as likely."""

    name: str
    times_s: tuple[float, ...]
    most: int = 1

    @property
    def tags_per_s(self) -> float:
        """As `Server` says."""
        return len(self.times_s) / sum(self.times_s)

    def seconds(self, requests: int, rng: np.random.Generator) -> Seconds:
        """As `Server` says."""
        drawn = rng.choice(np.array(self.times_s), requests).tolist()
        return lambda first, _: float(drawn[first])


@dataclass(frozen=True)
class InBatches:
    """As many at once as there are times: that of one request, of two together, and so on."""

    name: str
    batch_s: tuple[float, ...]

    @property
    def most(self) -> int:
        """As `Server` says."""
        return len(self.batch_s)

    @property
    def tags_per_s(self) -> float:
        """As `Server` says."""
        return max(n / seconds for n, seconds in enumerate(self.batch_s, 1))

    def seconds(self, requests: int, rng: np.random.Generator) -> Seconds:
        """As `Server` says."""
        return lambda _, n: self.batch_s[n - 1]


def batch_ms(gpu: GpuSpec, batch: int, how: Efficiency) -> float:
    """Time of a pass over so many tags by `codes` at once, 4-bit weights. The software's part of each request comes one after the other."""
    ((one,),) = roofline.strategies(Workload())["codes"]
    return roofline.pass_ms(gpu, PHI_3_MINI, FORMATS["int4_awq"], one, how, batch) + batch * how.request_ms


def on_paper(gpu: GpuSpec, most: int) -> InBatches:
    """A GPU whose engine takes so many requests at once, as `build.roofline` expects it."""
    how = roofline.expected()
    return InBatches(f"{gpu.name}, on paper", tuple(batch_ms(gpu, batch, how) / 1000 for batch in range(1, most + 1)))


def measured_ms(report: Path) -> list[float]:
    """Milliseconds of each answered request in a report of `pika-tag eval --json`.

    Raises:
        SourceError: it is none, or holds no answer.
    """
    try:
        predictions = json.loads(report.read_text(encoding="utf-8"))["predictions"]
        times_ms = [float(each["latency_ms"]) for each in predictions if each["latency_ms"] is not None]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{report} is no report of `pika-tag eval --json` ({type(error).__name__}: {error})") from None
    if not times_ms or min(times_ms) <= 0:
        raise SourceError(f"{report} holds no answered request: look at what `pika-tag eval` said")
    return times_ms


def one_by_one(name: str, times_ms: list[float]) -> OneByOne:
    """A server with these times."""
    return OneByOne(name, tuple(ms / 1000 for ms in times_ms))
