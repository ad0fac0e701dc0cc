"""The evaluation dialogues, answered by a served repository, beside answers that another engine gave before.

    python -m benchmarks.h200.labels REPOSITORY --record FILE       ask and write the answers
    python -m benchmarks.h200.labels REPOSITORY --compare FILE OUT  ask and write how many are the same, and which are not

No text is written, only the number of the line in tests/data/eval_dialogues.jsonl.
"""

import argparse
import json
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from build import ROOT
from build.ports import free_ports
from build.serve import VLLM_START_TIMEOUT_S, running
from pika_tagger import TaggerClient

DIALOGUES = ROOT / "tests" / "data" / "eval_dialogues.jsonl"
CALLERS = 8


def main() -> None:
    """Ask, then record or compare."""
    parser = argparse.ArgumentParser(description="Compare the tags of two engines.")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("FILE", "OUT"))
    given = parser.parse_args()
    found = answers(given.repository)
    if given.record:
        given.record.write_text("".join(json.dumps(answer) + "\n" for answer in found), encoding="utf-8")
    if given.compare:
        before, out = given.compare
        expected = [json.loads(line) for line in before.read_text(encoding="utf-8").splitlines()]
        out.write_text(json.dumps(difference(expected, found), indent=1), encoding="utf-8")


def answers(repository: Path) -> list[dict[str, Any]]:
    """One a line: emotion_name, celebrate, celebrate_score and the score of the emotion."""
    rows = [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    fields = ("user_last_message", "pika_response", "pika_last_message")
    with running(repository, free_ports(), Path(tempfile.mkdtemp(prefix="labels-")) / "serve.log") as server:
        server.wait_until_ready(VLLM_START_TIMEOUT_S)
        with (
            TaggerClient(server.url, budget_ms=math.inf, timeout_s=60.0, on_failure="raise") as client,
            ThreadPoolExecutor(CALLERS) as pool,
        ):
            tags = list(pool.map(lambda row: client.tag(**{name: row[name] for name in fields if row.get(name) is not None}), rows))
    return [
        {
            "emotion_name": tag.emotion_name,
            "celebrate": tag.celebrate,
            "emotion_score": round(max(tag.emotion_scores.values()), 6),
            "celebrate_score": round(tag.celebrate_score, 6),
        }
        for tag in tags
    ]


def difference(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, Any]:
    """How many answers are the same, how far scores are apart, and the lines that differ."""
    pairs = list(zip(expected, found, strict=True))
    same = [all(a[key] == b[key] for key in ("emotion_name", "celebrate")) for a, b in pairs]
    return {
        "n_dialogues": len(pairs),
        "same_emotion": sum(a["emotion_name"] == b["emotion_name"] for a, b in pairs),
        "same_celebrate": sum(a["celebrate"] == b["celebrate"] for a, b in pairs),
        "same_both": sum(same),
        "largest_difference": {key: max(abs(a[key] - b[key]) for a, b in pairs) for key in ("emotion_score", "celebrate_score")},
        "different": [
            {"line": line, "expected": a, "found": b} for line, ((a, b), alike) in enumerate(zip(pairs, same, strict=True), 1) if not alike
        ],
    }


if __name__ == "__main__":
    main()
