"""pika-tag bench against the real server: Triton's own counts agree with what was asked."""

import json
from pathlib import Path

import pytest

from build.serve import Server
from build.server_options import GRPC_KEY_HEADER
from pika_tagger.cli import main
from tests.e2e.conftest import EVALUATION

pytestmark = pytest.mark.e2e


def test_triton_counts_what_was_asked_and_a_cold_prefix_costs_the_engine_one_more_each(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    command = [
        "bench",
        str(EVALUATION),
        "--url",
        server.url,
        "--metadata",
        f"{GRPC_KEY_HEADER}={server.access.admin_key}",
        "--requests",
        "30",
        "--concurrency",
        "1",
        "--rate",
        "10",
        "--cold",
        "--json",
        str(out),
    ]
    assert main(command) == 0
    runs = {run["name"]: run for run in json.loads(out.read_text(encoding="utf-8"))["runs"]}
    assert list(runs) == ["1 at a time", "10/s", "cold prefix"]
    for name, run in runs.items():
        assert (run["requests"], run["failures"]) == (30, {})
        # Triton counts a request after its answer has gone, so the last one of a run may fall to the next.
        assert run["server"]["tagger"]["requests"] == pytest.approx(30, abs=1)
        assert run["server"]["tensorrt_llm"]["requests"] == pytest.approx(60 if name == "cold prefix" else 30, abs=1)
        assert run["server"]["tensorrt_llm"]["compute_infer_ms"] > 0
        assert run["server"]["tagger"]["compute_infer_ms"] > run["server"]["tensorrt_llm"]["compute_infer_ms"] or name == "cold prefix"
