"""The benchmark against the real server: the strategies of one server beside each other."""

import json
from pathlib import Path

import pytest

from build.bench.__main__ import main
from build.serve import Server
from tests.e2e.conftest import EVALUATION

pytestmark = pytest.mark.e2e


def test_one_pass_is_quicker_than_the_answer_written_out_and_says_much_the_same(server: Server, tmp_path: Path) -> None:
    data, out, page = tmp_path / "some.jsonl", tmp_path / "verdict.json", tmp_path / "verdict.html"
    data.write_text("".join(EVALUATION.read_text(encoding="utf-8").splitlines(keepends=True)[:60]), encoding="utf-8")
    command = ["compare", f"grpc://{server.url}/json", f"grpc://{server.url}/codes", "--data", str(data), "--json", str(out)]
    assert main([*command, "--html", str(page)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["dialogues"] == 60
    assert found["in_turn"] is True
    # Sixteen passes against one on the same server: were they not three times as slow, something else would be measured.
    assert found["latency"][0]["ratio"]["low"] > 1
    assert len(found["disagreements"]) < 15
    assert all(each["b"] > 0.85 for each in found["accuracy"])
    assert "Disagreements" in page.read_text(encoding="utf-8")
