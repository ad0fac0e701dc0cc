"""Many robots talking at once: when their lines arrive, and how long each waits for its tag. A simulation, in numpy.

Robots talk in conversations. A conversation is a number of lines with pauses between them; conversations begin at random, and a share of
them together, as lessons do. Each line is a request. How long a server is busy with it, `build.fleet_servers` says. The queues are exact
for given arrivals and times; what they are tested against is queueing theory.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build.errors import SettingError

Times = npt.NDArray[np.float64]
"""One-dimensional, in seconds."""
Seconds = Callable[[int, int], float]
"""How long a server is busy with requests that it takes at once: index of the first, and how many."""


@dataclass(frozen=True)
class Talk:
    """How robots talk. All of it is assumption; put your own figures in its place.

    Attributes:
        robots: How many there are.
        talking: Share of them that is in a conversation, averaged over the hour that is looked at.
        lines: Mean number of lines in a conversation (geometric).
        gap_s: Mean time from one line of a conversation to the next; it is `least_gap_s` and an exponential rest.
        least_gap_s: Pika has to say its line, and the child to answer.
        together: Share of the conversations that begin together, within `bell_width_s` after every `bell_every_s`.
        bell_every_s: See `together`.
        bell_width_s: See `together`.
    """

    robots: int = 1000
    talking: float = 0.2
    lines: float = 20.0
    gap_s: float = 8.0
    least_gap_s: float = 3.0
    together: float = 0.5
    bell_every_s: float = 900.0
    bell_width_s: float = 60.0

    @property
    def conversation_s(self) -> float:
        """Mean length of a conversation."""
        return self.lines * self.gap_s

    @property
    def requests_per_s(self) -> float:
        """Mean rate of lines from all robots."""
        return self.robots * self.talking / self.gap_s


def arrivals(talk: Talk, hours: float, rng: np.random.Generator) -> Times:
    """When lines arrive, in order, over so many hours that begin in the middle of the day's talking.

    Raises:
        SettingError: the mean gap is not above the least one.
    """
    if talk.gap_s <= talk.least_gap_s:
        raise SettingError(f"a mean gap of {talk.gap_s:g} s between lines is not above the least one, {talk.least_gap_s:g} s")
    end_s = 3600 * hours
    # Those that began before the time that is looked at still talk in it. What began earlier than this is over but for a few in a thousand.
    begin_s = -talk.bell_every_s * np.ceil(8 * talk.conversation_s / talk.bell_every_s)
    n = rng.poisson(talk.robots * talk.talking / talk.conversation_s * (end_s - begin_s))
    starts = rng.uniform(begin_s, end_s, n)
    at_bell = rng.random(n) < talk.together
    bells = np.floor(starts / talk.bell_every_s) * talk.bell_every_s
    starts = np.where(at_bell, bells + rng.uniform(0, talk.bell_width_s, n), starts)
    lines = rng.geometric(1 / talk.lines, n)
    gaps = talk.least_gap_s + rng.exponential(talk.gap_s - talk.least_gap_s, int(lines.sum()))
    first = np.concatenate([[0], np.cumsum(lines)[:-1]])
    # The first line is at the start of its conversation, each other one a gap after the one before it.
    since = np.cumsum(gaps)
    times = np.repeat(starts - since[first], lines) + since
    return np.sort(times[(times >= 0) & (times < end_s)])


def one_queue(arrived: Times, servers: int, most: int, seconds: Seconds) -> Times:
    """How long each request takes, waiting included, where all servers share one queue.

    A server that is free takes what waits, in the order of arrival and up to `most` at once, and is busy until all of that is done.

    Args:
        arrived: when, in order.
        servers: how many.
        most: how many requests one of them takes at once.
        seconds: how long it is busy with so many requests, of which the first has that index.
    """
    free_at = [0.0] * servers
    due = arrived.tolist()
    took = np.empty_like(arrived)
    first = 0
    while first < len(due):
        begin = max(due[first], free_at[0])
        n = 1
        while n < most and first + n < len(due) and due[first + n] <= begin:
            n += 1
        done = begin + seconds(first, n)
        heapq.heapreplace(free_at, done)
        took[first : first + n] = done - arrived[first : first + n]
        first += n
    return took


def own_queues(arrived: Times, servers: int, most: int, seconds: Seconds, rng: np.random.Generator) -> Times:
    """The same where each server has a queue of its own, and a request goes to any of them, whether or not it is busy.

    So it is with balancing by the clients: each takes the servers in turn, and none knows of the others.
    """
    chosen = rng.integers(servers, size=len(arrived))
    took = np.empty_like(arrived)
    for mine in np.split(np.argsort(chosen, kind="stable"), np.cumsum(np.bincount(chosen, minlength=servers))[:-1]):
        took[mine] = one_queue(arrived[mine], 1, most, _by_index(seconds, mine.tolist()))
    return took


def _by_index(seconds: Seconds, indices: list[int]) -> Seconds:
    """`seconds` for some of the requests, counted among themselves."""
    return lambda first, n: seconds(indices[first], n)
