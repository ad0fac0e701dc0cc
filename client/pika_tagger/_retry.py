"""When a call that no server took is sent once more.

gRPC can do that itself, but it knows the deadline alone and would go on after the budget; and its throttle was seen not to recover: with
grpcio 1.85.1 and a tokenRatio of 1, ten failures shut it, and fifty successes did not open it again. So the rule is here, in the form of
gRPC's own (https://github.com/grpc/proposal/blob/master/A6-client-retries.md). Every pause is partly random, so that robots that lost a
server together do not come back together.
"""

import random
import threading

MAX_ATTEMPTS = 8
"""With one ill server of two and other calls under way, an attempt comes to the ill one every second time, whoever's turn it
should be: one call in 256 comes to it eight times."""
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.008
_MAX_TOKENS = 60
_TOKENS_OF_A_SUCCESS = 2
"""With 1, a single ill server of two would take as many as the other one gives, and chance alone would shut the throttle now and then. A
burst of failures comes before the first successes, too: an ill server says no at once."""


def pause_s(attempt: int) -> float:
    """Return how long to wait after attempt number `attempt`, which counts from 0: up to 2, 4, then 8 ms, and at least half of that."""
    return min(_FIRST_PAUSE_S * 2.0**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)


class Throttle:
    """Forbids further attempts while more than two of three calls fail; shared by all threads.

    A failure takes a token and a success gives two back, up to `_MAX_TOKENS`. While half of them are gone nothing is sent twice. So one ill
    server of two is made up for as long as it lasts, and servers that are all ill get no more than what is asked of them anyway.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = _MAX_TOKENS

    def succeeded(self) -> None:
        """Note an answer."""
        with self._lock:
            self._tokens = min(self._tokens + _TOKENS_OF_A_SUCCESS, _MAX_TOKENS)

    def failed(self) -> bool:
        """Note a failure, and return whether another attempt may be made."""
        with self._lock:
            self._tokens = max(self._tokens - 1, 0)
            return self._tokens > _MAX_TOKENS // 2
