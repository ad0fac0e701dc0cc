"""The benchmarks measure what they say. PIKA_PERF_ANALYZER=1 also downloads NVIDIA's perf_analyzer and runs it."""

import json
import os
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks import overhead, perf_analyzer
from build import manifest
from build.evaluate import DIALOGUES
from build.serve import Server
from one_pass import Dialogue
from tests.support import endpoint

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()][: overhead.BLOCK_ROUNDS]


def test_the_parts_of_a_tag_add_up_and_each_call_is_counted_once(server: Server, repository: Path, rows: list[dict[str, str]]) -> None:
    dialogues = [Dialogue(row["user_last_message"], row["pika_response"]) for row in rows]
    endpoint.settled(server)  # requests of other tests are counted
    before = [overhead.counted(server, model).requests for model in overhead.MODELS]
    taken_ms, parts_ms = overhead.measure(server, repository, dialogues, blocks=2, gap_s=0.0)
    after = [overhead.counted(server, model).requests for model in overhead.MODELS]
    assert after == [requests + (overhead.WARM_UP_BLOCKS + 2) * overhead.BLOCK_ROUNDS for requests in before]
    assert {len(times_ms) for times_ms in taken_ms.values()} == {2 * overhead.BLOCK_ROUNDS}
    for block in range(2):
        tags_ms = taken_ms[overhead.TAG][block * overhead.BLOCK_ROUNDS :][: overhead.BLOCK_ROUNDS]
        assert sum(part_ms[block] for part_ms in parts_ms.values()) == pytest.approx(sum(tags_ms) / overhead.BLOCK_ROUNDS)
        inside = [
            part_ms[block] for part, part_ms in parts_ms.items() if part.startswith(("tagger: queue", "tagger: prompt", "engine model: q"))
        ]
        assert min(inside) > 0


def test_the_queue_is_made_longer_in_a_copy(repository: Path, tmp_path: Path) -> None:
    perf_analyzer.with_queue(repository, tmp_path / "copy", 32)
    before, after = manifest.verify_contents(repository), manifest.verify_contents(tmp_path / "copy")
    assert {name for name, record in after.files.items() if before.files.get(name) != record} == {"tagger/config.pbtxt"}
    assert before.files.keys() == after.files.keys()
    original, changed = (
        text_format.Parse((folder / "tagger" / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        for folder in (repository, tmp_path / "copy")
    )
    original.dynamic_batching.default_queue_policy.max_queue_size = 32
    assert changed == original


@pytest.mark.skipif("PIKA_PERF_ANALYZER" not in os.environ, reason="downloads perf_analyzer: set PIKA_PERF_ANALYZER=1")
def test_perf_analyzer_runs_against_tagger_and_ensemble(server: Server, rows: list[dict[str, str]], tmp_path: Path) -> None:
    binary = perf_analyzer.install(tmp_path / "tool")
    assert perf_analyzer.install(tmp_path / "tool") == binary
    for model, inputs in (("tagger", perf_analyzer.tagger_rows(rows)), ("ensemble", perf_analyzer.ensemble_rows(rows))):
        per_s, *latencies_us = perf_analyzer.measure(binary, server, model, inputs, concurrency=2, requests=40)
        assert per_s > 0
        assert latencies_us == sorted(latencies_us)
        assert latencies_us[0] > 0
