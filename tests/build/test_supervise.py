"""When a failed server is started again, after which pause, and when no more."""

import time

import pytest

from build import supervise
from build.errors import ServerError

STEADY = supervise.STEADY_S
START_TIMEOUT_S = 7.0


class NothingLeftError(Exception):
    """A server is started for which nothing is foreseen."""


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds


class Play:
    """Servers that do as they are told: each is a number of seconds that it gives tags for, or what goes wrong while it starts."""

    def __init__(self, clock: Clock, acts: list[float | str]) -> None:
        self.clock, self.acts, self.running, self.said = clock, acts, 0, list[str]()

    def launch(self) -> "Play.Server":
        assert self.running == 0, "the server of before is still there"
        if not self.acts:
            raise NothingLeftError
        self.running += 1
        return Play.Server(self, self.acts.pop(0))

    def supervise(self) -> None:
        supervise.supervise(self.launch, self.said.append, "ready", START_TIMEOUT_S)

    class Server:
        def __init__(self, play: "Play", act: float | str) -> None:
            self.play, self.act = play, act
            self.has_crashed = act == "crash"

        def wait_until_ready(self, timeout_s: float) -> None:
            assert timeout_s == START_TIMEOUT_S
            if isinstance(self.act, str):
                raise ServerError(f"{self.act}{self.log_tail()}")

        def wait_until_failure(self) -> str:
            assert isinstance(self.act, float)
            self.play.clock.now_s += self.act
            return "the stub of tagger has ended"

        def kill(self) -> None:
            self.play.running -= 1

        def log_tail(self) -> str:
            return ". The end of /serve.log:\nthe last line"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now_s)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


def test_a_failed_server_is_killed_and_started_again_and_both_are_told(clock: Clock) -> None:
    play = Play(clock, [5.0, 5.0])
    with pytest.raises(NothingLeftError):
        play.supervise()
    again = "the stub of tagger has ended; starting again in {} s ({} of 5)"
    assert play.said == ["ready", again.format(0, 1), "ready", again.format(1, 2)]


@pytest.mark.parametrize("act", [0.0, STEADY - 1, "no tag came back"])
def test_pauses_grow_and_the_last_failure_ends_it_with_the_log(clock: Clock, act: float | str) -> None:
    play = Play(clock, [1.0, *[act] * 10])
    with pytest.raises(ServerError, match=r"was started again 5 times and failed again: .+\. The end of /serve\.log:") as caught:
        play.supervise()
    assert clock.pauses_s == [0, 1, 2, 4, 8]
    assert play.running == 0
    assert str(caught.value).count("the last line") == 1
    assert not [line for line in play.said if "The end of" in line]


def test_a_server_that_has_long_been_well_gets_all_restarts_anew(clock: Clock) -> None:
    play = Play(clock, [1.0, 1.0, STEADY, *[1.0] * 10])
    with pytest.raises(ServerError):
        play.supervise()
    assert clock.pauses_s == [0, 1, 0, 1, 2, 4, 8]


def test_what_fails_at_the_first_start_is_not_tried_again(clock: Clock) -> None:
    with pytest.raises(ServerError, match=r"no tag came back within 120 s\. The end of /serve\.log:\nthe last line"):
        Play(clock, ["no tag came back within 120 s", 1.0]).supervise()
    assert clock.pauses_s == []


def test_a_crash_at_the_first_start_is_tried_again(clock: Clock) -> None:
    play = Play(clock, ["crash", 1.0])
    with pytest.raises(NothingLeftError):
        play.supervise()
    assert play.said[:2] == ["crash; starting again in 0 s (1 of 5)", "ready"]
