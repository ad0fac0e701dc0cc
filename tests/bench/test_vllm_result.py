"""A result that `vllm bench serve` saved: the case that its users could not explain, and files that say too little."""

import json
from pathlib import Path
from typing import Any

import pytest

from build.bench.__main__ import main
from build.bench.block import block
from build.bench.findings import arrived_at_once
from build.bench.measure import Offer
from build.bench.metrics import ITL, LATENCY, TPOT, TTFT, metrics
from build.bench.vllm_result import is_one, read
from build.errors import PipelineError


def result(requests: int, tokens: int = 4, **changed: Any) -> dict[str, Any]:
    """Requests that were all sent within 0.1 s and answered one after the other, as vLLM 0.24 saves them."""
    times = {
        "start_times": [1000.0 + 0.1 * number / requests for number in range(requests)],
        "ttfts": [0.25 * (number + 1) for number in range(requests)],
        "itls": [[0.02] * (tokens - 1) for _ in range(requests)],
        "output_lens": [tokens] * requests,
        "errors": [""] * requests,
    }
    about = {
        "date": "20261121-090000",
        "endpoint_type": "vllm",
        "backend": "vllm",
        "model_id": "phi-3",
        "num_prompts": requests,
        "request_rate": "inf",
        "max_concurrency": None,
        "duration": 0.25 * requests + 0.1,
        "completed": requests,
    }
    return {**about, **times, **changed}


def saved(folder: Path, content: object) -> Path:
    path = folder / "vllm.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_times_are_those_that_were_saved(tmp_path: Path) -> None:
    (run,) = read(saved(tmp_path, result(3, tokens=3))).runs
    found = metrics(run)
    assert found[TTFT].values_ms == pytest.approx((250, 500, 750))
    assert found[LATENCY].values_ms == pytest.approx((290, 540, 790))
    assert found[ITL].values_ms == pytest.approx((20,) * 6)
    assert found[TPOT].values_ms == pytest.approx((20,) * 3)
    assert (run.name, run.offer) == ("all at once", Offer(3, rate_hz=float("inf")))


def test_the_page_says_what_happened_to_a_thousand_requests_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = saved(tmp_path, result(1000, tokens=8)), tmp_path / "page.html"
    assert arrived_at_once(read(path).runs[0])
    assert main(["report", str(path), "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "! All 1000 requests arrived at once." in shown
    assert "Answers that cannot be used:              n/a" in shown
    assert "Emotion right, celebrate right:           n/a" in shown
    assert "Goodput within 50 ms (req/s, share):      0.00, 0.0%" in shown
    assert "arrived at once" in page.read_text(encoding="utf-8")


def test_answers_that_nobody_judged_are_neither_broken_nor_wrong(tmp_path: Path) -> None:
    session = read(saved(tmp_path, result(30, max_concurrency=4, ttfts=[0.01] * 30, itls=[[]] * 30, output_lens=[1] * 30)))
    (run,) = session.runs
    assert run.name == "4 at a time"
    assert run.goodput(25)[1] == 1.0
    assert not any("JSON" in line for line in block("x", run, session.rows))


def test_failed_requests_are_counted(tmp_path: Path) -> None:
    (run,) = read(saved(tmp_path, result(3, errors=["", "Service Unavailable", ""], request_rate=5.0))).runs
    assert (run.failures, len(run.complete), run.name) == ({"failed": 1}, 2, "5/s")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ttfts": [0.1]}, "no whole result"),
        ({"duration": None}, "no whole result"),
        ({"request_rate": "fast"}, "no whole result"),
        ({"start_times": [], "ttfts": [], "itls": [], "output_lens": [], "errors": []}, "no request in it"),
    ],
)
def test_a_damaged_result_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        read(saved(tmp_path, result(3, **changed)))


def test_a_result_without_single_requests_is_refused_with_the_flags_that_save_them(tmp_path: Path) -> None:
    content = {name: value for name, value in result(3).items() if name not in ("start_times", "itls")}
    with pytest.raises(PipelineError, match=r"has no start_times, itls: run .* --save-result --save-detailed"):
        read(saved(tmp_path, content))


def test_other_files_are_no_such_results(tmp_path: Path) -> None:
    assert is_one(saved(tmp_path, result(1)))
    assert not is_one(saved(tmp_path, {"endpoint": {"name": "x"}}))
    assert not is_one(tmp_path / "none.json")
