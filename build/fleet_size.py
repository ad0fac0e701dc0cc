"""How many servers a fleet of robots needs: the fewest that keep the budget in the busiest minute.

What is late on average over an hour says little: lessons begin together, and it is then that tags are late.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build.errors import SettingError
from build.fleet import Times

BUDGET_MS = 50.0
MOST_LATE = 0.01
"""A fleet is large enough if in its busiest minute no larger share of the tags is late."""
MOST_SERVERS = 512


@dataclass(frozen=True)
class Sized:
    """A number of servers, and how they do in the busiest minute."""

    servers: int
    late: float
    percentiles_ms: tuple[float, float, float]
    """50, 95 and 99."""


def smallest(arrived: Times, took_by: Callable[[int], Times]) -> Sized:
    """The smallest fleet that is large enough.

    Args:
        arrived: when requests arrive, in order, in seconds.
        took_by: how long each takes, waiting included, with so many servers.

    Raises:
        SettingError: nothing arrives, or no number of servers would be enough.
    """
    if not len(arrived):
        raise SettingError("nobody says anything: give more robots, or a larger share of them that talk")
    busiest = busiest_minute(arrived)

    def with_servers(servers: int) -> Sized:
        took = took_by(servers)[busiest]
        return Sized(servers, float(np.mean(1000 * took > BUDGET_MS)), percentiles_ms(took))

    too_few, enough = 0, with_servers(1)
    while enough.late > MOST_LATE:
        if enough.servers >= MOST_SERVERS:
            raise SettingError(f"not even {enough.servers} servers keep {BUDGET_MS:g} ms: one of them alone is too slow")
        too_few, enough = enough.servers, with_servers(2 * enough.servers)
    while enough.servers - too_few > 1:
        tried = with_servers((too_few + enough.servers) // 2)
        if tried.late > MOST_LATE:
            too_few = tried.servers
        else:
            enough = tried
    return enough


def busiest_minute(arrived: Times) -> npt.NDArray[np.bool_]:
    """Which requests arrive in the minute that has most of them."""
    minutes = (arrived // 60).astype(np.int64)
    chosen: npt.NDArray[np.bool_] = minutes == np.bincount(minutes).argmax()
    return chosen


def percentiles_ms(took: Times) -> tuple[float, float, float]:
    """50, 95 and 99 of times in seconds."""
    p50, p95, p99 = (float(ms) for ms in 1000 * np.percentile(took, [50, 95, 99]))
    return p50, p95, p99
