"""The parts of an evaluation: percentiles, progress, the report file."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pika_tagger import TaggerClient, _evaluate, _files, _outcomes, _render
from pika_tagger._labelled import Row
from tests.support.fake_triton import FakeTriton


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    _files.write_json(out, {"old": True})
    with pytest.raises(TypeError):
        _files.write_json(out, {"new": True, "unwritable": object()})
    assert json.loads(out.read_text(encoding="utf-8")) == {"old": True}
    assert list(tmp_path.iterdir()) == [out]


def test_a_reader_of_the_old_report_is_not_disturbed_by_a_new_one(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    _files.write_json(out, {"old": True})
    with out.open(encoding="utf-8") as reader:
        _files.write_json(out, {"new": True})
        assert json.load(reader) == {"old": True}
    assert json.loads(out.read_text(encoding="utf-8")) == {"new": True}


def test_progress_without_a_terminal_is_a_line_for_every_tenth() -> None:
    stream = io.StringIO()
    assert list(_render.progress(range(25), 25, stream)) == list(range(25))
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["12", "20", "32", "40", "52", "60", "72", "80", "92", "100"]


@pytest.mark.parametrize("bar", [None, lambda items, **_: items], ids=["without tqdm", "with tqdm"])
def test_progress_on_a_terminal_needs_no_tqdm(monkeypatch: pytest.MonkeyPatch, bar: Callable[..., Any] | None) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None if bar is None else type("tqdm", (), {"tqdm": staticmethod(bar)}))
    assert list(_render.progress(range(10), 10, stream)) == list(range(10))
    assert stream.getvalue().count("\n") == (10 if bar is None else 0)


def test_percentiles_are_values_that_occurred() -> None:
    assert _evaluate.latencies([float(value) for value in range(100, 0, -1)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert _evaluate.latencies([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    assert _evaluate.latencies([]) == {}


def test_a_run_in_which_nothing_succeeds_has_no_latencies(server: FakeTriton, tagger: TaggerClient) -> None:
    assert tagger.server_info().labels
    server.fail_with("INTERNAL", "broken")
    rows = [Row(1, None, {"user_last_message": "a", "pika_response": "b"}, ("calm",), False, None)]
    outcomes = list(_outcomes.run(tagger, rows, 0.0, None))
    figures = _evaluate.figures_of(outcomes)
    assert (figures.latency_ms, figures.failed, figures.emotion.right) == ({}, 1, 0)
    assert not any("latency" in line for line in _render.report(figures, outcomes, conditions="", show_text=False))
