"""What the tagger counts, for the server's metrics endpoint: docs/tagger.md says what each name means.

To change a metric of Triton is a call to the server's process. So that no tag waits for it, a tag only adds to numbers in this process,
and a thread tells the server the differences a few times a second. No label and no value has anything of a dialogue in it: labels come
from the task file and from `Reason`. All instances of the model count into the same metrics, which Triton joins by name and labels.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import product
from typing import Any

import triton_python_backend_utils as pb_utils

TELL_PERIOD_S = 0.25
DURATION_BUCKETS_MS = (5, 10, 15, 20, 25, 35, 50, 75, 100, 250, 1000)


class Reason(StrEnum):
    """Why a request got no tag; a new one is added here and in docs/tagger.md."""

    INVALID_REQUEST = "invalid_request"
    ENGINE = "engine"
    INVALID_ANSWER = "invalid_answer"
    INTERNAL = "internal"


class Metrics:
    """The numbers of one instance. The counting methods are for one thread."""

    def __init__(self, label_names: Sequence[str], flag_words: Sequence[str]) -> None:
        """Declare all metrics, so that they are there as zeros before the first tag, and start the thread.

        Args:
            label_names: the emotions.
            flag_words: how "no" and "yes" are written, in this order.
        """
        tags = _counters("pika_tags_total", "Tags that were given.")
        self._tags = {
            (name, flag): _Counter(tags, {"emotion": name, "celebrate": word})
            for name, (flag, word) in product(label_names, enumerate(flag_words))
        }
        failures = _counters("pika_tag_failures_total", "Requests that reached the tagger and got no tag.")
        self._failures = {reason: _Counter(failures, {"reason": reason}) for reason in Reason}
        prompt = _counters("pika_prompt_tokens_total", "Tokens of the prompts that were sent to the engine, over all passes.")
        self._prompt_tokens = _Counter(prompt)
        reused = _counters("pika_reused_prompt_tokens_total", "Those of them that the engine found in whole blocks of its KV cache.")
        self._reused_tokens = _Counter(reused)
        invalid = _counters("pika_invalid_answers_total", "Answers of strategy json that were not the JSON that was asked for.")
        self._invalid_answers = _Counter(invalid)
        durations = pb_utils.MetricFamily(
            name="pika_tag_duration_ms",
            description="Time from prompt to answer of each tag, without the queue.",
            kind=pb_utils.MetricFamily.HISTOGRAM,
        )
        self._durations = durations.Metric(labels={}, buckets=[float(bound) for bound in DURATION_BUCKETS_MS])
        self._new_durations_ms: deque[float] = deque()
        # A family must outlive its metrics.
        self._families = (tags, failures, prompt, reused, invalid, durations)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
        self._thread.start()

    def tagged(self, emotion_name: str, flag: bool, duration_ms: float) -> None:
        """A tag was given."""
        self._tags[emotion_name, flag].value += 1
        self._new_durations_ms.append(duration_ms)

    def failed(self, reason: Reason) -> None:
        """A request got none."""
        self._failures[reason].value += 1

    def passed(self, prompt_tokens: int, reused_tokens: int) -> None:
        """The engine was asked once."""
        self._prompt_tokens.value += prompt_tokens
        self._reused_tokens.value += reused_tokens

    def answered_invalidly(self) -> None:
        """The model wrote something else than the JSON."""
        self._invalid_answers.value += 1

    def close(self) -> None:
        """End the thread; what was not told yet is not told any more, because the server forgets a model's metrics with the model."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        counters = (*self._tags.values(), *self._failures.values(), self._prompt_tokens, self._reused_tokens, self._invalid_answers)
        while not self._closing.wait(TELL_PERIOD_S):
            for counter in counters:
                counter.tell()
            while self._new_durations_ms:
                self._durations.observe(self._new_durations_ms.popleft())
                # Each call holds Python's lock until the server has answered; a tag that waits for it goes first.
                time.sleep(0)


class _Counter:
    """A number that the thread which tags adds to, and of which the thread that tells reads the growth."""

    def __init__(self, family: Any, labels: Mapping[str, str] | None = None) -> None:
        self._metric = family.Metric(labels=dict(labels or {}))
        self.value = self._told = 0

    def tell(self) -> None:
        value = self.value
        if value > self._told:
            self._metric.increment(value - self._told)
            self._told = value


def _counters(name: str, description: str) -> Any:
    return pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
