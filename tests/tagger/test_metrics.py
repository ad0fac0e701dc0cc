"""What is counted reaches Triton once, in full, and apart from the thread that tags."""

import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from build import ROOT
from tests.support.fake_backend import Metric, MetricFamily, loaded

PATIENCE_S = 20.0


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    with loaded(ROOT / "model_repository" / "tagger" / "1" / "metrics.py") as found:
        monkeypatch.setattr(found, "TELL_PERIOD_S", 0.001)
        yield found


@pytest.fixture
def metrics(module: ModuleType) -> Iterator[Any]:
    made = module.Metrics(("happy", "sad"), ("no", "yes"))
    yield made
    made.close()


def metric(family: str, **labels: str) -> Metric:
    (found,) = [one for one in MetricFamily.made[family].metrics if one.labels == labels]
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_every_series_is_declared_before_the_first_tag(metrics: Any) -> None:
    declared = {name: (family.kind, [one.labels for one in family.metrics]) for name, family in MetricFamily.made.items()}
    assert declared == {
        "pika_tags_total": ("COUNTER", [{"emotion": e, "celebrate": c} for e in ("happy", "sad") for c in ("no", "yes")]),
        "pika_tag_failures_total": (
            "COUNTER",
            [{"reason": reason} for reason in ("invalid_request", "engine", "invalid_answer", "internal")],
        ),
        "pika_prompt_tokens_total": ("COUNTER", [{}]),
        "pika_reused_prompt_tokens_total": ("COUNTER", [{}]),
        "pika_invalid_answers_total": ("COUNTER", [{}]),
        "pika_tag_duration_ms": ("HISTOGRAM", [{}]),
    }
    assert metric("pika_tag_duration_ms").buckets == [5, 10, 15, 20, 25, 35, 50, 75, 100, 250, 1000]


def test_each_number_goes_to_its_own_series(metrics: Any, module: ModuleType) -> None:
    metrics.tagged("sad", True, 7.5)
    metrics.failed(module.Reason.ENGINE)
    metrics.passed(400, 352)
    metrics.answered_invalidly()
    wait_for(lambda: bool(metric("pika_tag_duration_ms").told))
    told = {(name, *one.labels.values()): one.told for name, family in MetricFamily.made.items() for one in family.metrics if one.told}
    assert told == {
        ("pika_tags_total", "sad", "yes"): [1],
        ("pika_tag_failures_total", "engine"): [1],
        ("pika_prompt_tokens_total",): [400],
        ("pika_reused_prompt_tokens_total",): [352],
        ("pika_invalid_answers_total",): [1],
        ("pika_tag_duration_ms",): [7.5],
    }


def test_nothing_is_lost_or_told_twice_while_tags_go_on(metrics: Any) -> None:
    for i in range(20_000):
        metrics.tagged("happy", False, float(i))
        metrics.passed(3, 2)
    durations = metric("pika_tag_duration_ms").told
    wait_for(lambda: len(durations) >= 20_000)
    wait_for(lambda: sum(metric("pika_tags_total", emotion="happy", celebrate="no").told) >= 20_000)
    assert durations == [float(i) for i in range(20_000)]
    assert sum(metric("pika_tags_total", emotion="happy", celebrate="no").told) == 20_000
    assert sum(metric("pika_prompt_tokens_total").told) == 60_000
    assert sum(metric("pika_reused_prompt_tokens_total").told) == 40_000


def test_a_tag_does_not_wait_for_the_server(metrics: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, asked_from = threading.Event(), []

    def slow(_self: Metric, _amount: float) -> None:
        asked_from.append(threading.current_thread())
        assert go_on.wait(PATIENCE_S)

    monkeypatch.setattr(Metric, "increment", slow)
    metrics.tagged("sad", False, 1.0)
    wait_for(lambda: bool(asked_from))
    metrics.tagged("sad", False, 1.0)  # comes back while the server has not answered
    assert not go_on.is_set()
    go_on.set()
    assert threading.current_thread() not in asked_from


def test_closing_ends_the_thread(module: ModuleType) -> None:
    before = threading.active_count()
    made = module.Metrics(("happy",), ("no", "yes"))
    assert threading.active_count() == before + 1
    made.close()
    assert threading.active_count() == before
