"""The simulated queues against queueing theory, and the arrivals against what `Talk` says of them."""

from math import factorial

import numpy as np
import pytest

from build.errors import SettingError
from build.fleet import Seconds, Talk, Times, arrivals, one_queue, own_queues

N = 100_000
SERVICE_S = 0.02


def poisson(rate_per_s: float, seed: int = 1) -> Times:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, N))


def exponential(seed: int = 2) -> Seconds:
    drawn = np.random.default_rng(seed).exponential(SERVICE_S, N)
    return lambda first, _: float(drawn[first])


def always(first: int, n: int) -> float:
    return SERVICE_S


def erlang_c(servers: int, used: float) -> float:
    """Probability that a request of M/M/c has to wait."""
    offered = servers * used
    waiting = offered**servers / factorial(servers) / (1 - used)
    return waiting / (sum(offered**k / factorial(k) for k in range(servers)) + waiting)


@pytest.mark.parametrize("servers", [1, 2, 5])
@pytest.mark.parametrize("used", [0.4, 0.7])
def test_a_shared_queue_waits_as_in_m_m_c(servers: int, used: float) -> None:
    took = one_queue(poisson(servers * used / SERVICE_S), servers, 1, exponential())
    expected_wait_s = erlang_c(servers, used) * SERVICE_S / (servers * (1 - used))
    assert took.mean() - SERVICE_S == pytest.approx(expected_wait_s, rel=0.06)


@pytest.mark.parametrize("servers", [1, 3])
def test_as_many_have_to_wait_as_erlang_says(servers: int) -> None:
    waited = one_queue(poisson(servers * 0.7 / SERVICE_S), servers, 1, always_after := exponential())
    drawn = np.array([always_after(i, 1) for i in range(N)])
    assert np.mean(waited - drawn > 1e-6) == pytest.approx(erlang_c(servers, 0.7), rel=0.02)


@pytest.mark.parametrize("used", [0.3, 0.5, 0.7])
def test_equal_service_times_wait_as_in_m_d_1(used: float) -> None:
    took = one_queue(poisson(used / SERVICE_S), 1, 1, always)
    assert took.mean() - SERVICE_S == pytest.approx(SERVICE_S * used / (2 * (1 - used)), rel=0.05)


def test_queues_of_their_own_are_as_many_m_m_1_however_many_servers() -> None:
    used = 0.6
    took = own_queues(poisson(4 * used / SERVICE_S), 4, 1, exponential(), np.random.default_rng(3))
    assert took.mean() == pytest.approx(SERVICE_S / (1 - used), rel=0.04)


def test_a_shared_queue_is_never_worse_on_average_than_queues_of_their_own() -> None:
    arrived, seconds = poisson(4 * 0.8 / SERVICE_S), exponential()
    shared, own = one_queue(arrived, 4, 1, seconds), own_queues(arrived, 4, 1, seconds, np.random.default_rng(3))
    assert shared.mean() < own.mean() / 2


def test_little_s_law_holds() -> None:
    arrived = poisson(0.8 / SERVICE_S)
    took = one_queue(arrived, 1, 1, exponential())
    changes = np.concatenate([np.stack([arrived, np.ones(N)]), np.stack([arrived + took, -np.ones(N)])], axis=1)
    times, steps = changes[:, np.argsort(changes[0])]
    in_system = np.sum(np.cumsum(steps)[:-1] * np.diff(times)) / (times[-1] - times[0])
    assert in_system == pytest.approx(N / (times[-1] - times[0]) * took.mean(), rel=1e-6)


def test_what_waits_is_taken_together_up_to_the_most() -> None:
    asked: list[tuple[int, int]] = []

    def seconds(first: int, n: int) -> float:
        asked.append((first, n))
        return 1.0 + 0.1 * n

    took = one_queue(np.array([0.0, 0.1, 0.2, 0.3, 2.25, 9.0]), 1, 2, seconds)
    assert asked == [(0, 1), (1, 2), (3, 2), (5, 1)]
    # Done at 1.1, 2.3 (two), 3.5 (two) and 10.1.
    assert took == pytest.approx([1.1, 2.2, 2.1, 3.2, 1.25, 1.1])


def test_two_servers_take_turns_by_who_is_free() -> None:
    seconds = (3.0, 1.0, 1.0, 1.0)
    took = one_queue(np.array([0.0, 0.0, 0.0, 0.5]), 2, 1, lambda first, _: seconds[first])
    assert took == pytest.approx([3.0, 1.0, 2.0, 2.5])


def test_own_queues_keep_each_request_s_own_time() -> None:
    seconds = np.random.default_rng(4).uniform(1, 2, 1000)
    took = own_queues(np.arange(1000) * 100.0, 5, 1, lambda first, _: float(seconds[first]), np.random.default_rng(5))
    assert took == pytest.approx(seconds)


def test_lines_arrive_at_the_rate_of_the_robots() -> None:
    talk = Talk(robots=5000)
    arrived = arrivals(talk, 1.0, np.random.default_rng(6))
    assert talk.requests_per_s == 5000 * 0.2 / 8
    assert len(arrived) / 3600 == pytest.approx(talk.requests_per_s, rel=0.03)
    assert np.all(np.diff(arrived) >= 0)
    assert arrived[0] >= 0
    assert arrived[-1] < 3600


def test_as_many_talk_at_the_beginning_as_later_on() -> None:
    talk = Talk(robots=5000, together=0.0)
    arrived = arrivals(talk, 0.2, np.random.default_rng(6))
    assert np.count_nonzero(arrived < 100) / 100 == pytest.approx(talk.requests_per_s, rel=0.1)


def test_a_share_of_the_conversations_begins_together() -> None:
    talk = Talk(robots=10_000, talking=0.1, lines=1.0, together=0.3)  # one line each: arrivals are beginnings
    arrived = arrivals(talk, 1.0, np.random.default_rng(7))
    in_bell = np.mean(arrived % talk.bell_every_s < talk.bell_width_s)
    assert in_bell == pytest.approx(0.3 + 0.7 * talk.bell_width_s / talk.bell_every_s, abs=0.01)


def test_pauses_are_never_shorter_than_the_least() -> None:
    talk = Talk(robots=1, talking=0.02, lines=50, gap_s=4.5, least_gap_s=4.0, together=0.0)
    pauses = np.diff(arrivals(talk, 10.0, np.random.default_rng(8)))
    assert len(pauses) > 50
    assert pauses.min() >= 4.0
    assert np.median(pauses) == pytest.approx(4 + 0.5 * np.log(2), abs=0.1)


def test_a_gap_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingError, match="3 s between lines is not above the least one, 3 s"):
        arrivals(Talk(gap_s=3.0), 1.0, np.random.default_rng(1))
