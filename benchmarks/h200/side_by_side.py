"""The engine model as it is and with some lines changed, on one GPU at the same time, asked in turns: what the change is worth.

    python -m benchmarks.h200.side_by_side REPOSITORY OUT.json --change 'OLD => NEW' [--change ...]

REPOSITORY is assembled for a target that vLLM serves. Two copies of it are made, which share its weights; in the second, each OLD in
`tensorrt_llm/1/vllm_engine.py` is replaced by its NEW. Machines differ by more than most changes do: compare figures of one run.
"""

import argparse
import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.h200.askers import EngineAsker, TagAsker
from benchmarks.h200.latency import KV_CACHE_BYTES, engine_settings
from benchmarks.h200.load import measure, workers
from benchmarks.h200.questions import prepared, served_prompt
from build import manifest
from build.interrupts import interruptible
from build.ports import free_ports
from build.serve import VLLM_START_TIMEOUT_S, running

WEIGHTS = "awq"
MOST_PER_S, PREPARED = 2000, 15000
PLAN = (("tag", 60, 1), ("tag", 100, 1), ("engine", 60, 1), ("engine", 100, 1), ("tag", 60, 64), ("engine", 60, 64))
"""What is asked, new tokens, callers; the most wanted first."""


def main() -> None:
    """Start both, measure in turns, write after each measurement."""
    parser = argparse.ArgumentParser(description="Measure a change of the engine model.")
    parser.add_argument("repository", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--change", action="append", required=True, help="'OLD => NEW' for one place in vllm_engine.py of the second copy")
    parser.add_argument("--duration-s", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="side-by-side-"))
    changes = {"as it is": [], "changed": given.change}
    copies = {name: copied(given.repository, folder / name.replace(" ", "-"), changed) for name, changed in changes.items()}
    results: dict[str, Any] = {"changes": given.change, "measurements": []}
    with interruptible(), ExitStack() as stack:
        servers = {}
        for name, copy in copies.items():
            # Of its own: both compile at the same time.
            os.environ["VLLM_CACHE_ROOT"] = str(copy.with_suffix(".cache"))
            servers[name] = stack.enter_context(running(copy, free_ports(), copy.with_suffix(".log")))
        prompt = served_prompt(given.repository, engine_settings(given.repository)["block_size"])
        asked = {n: prepared(prompt, n, PREPARED) for n in sorted({n for _, n, _ in PLAN})}
        for server in servers.values():
            server.wait_until_ready(VLLM_START_TIMEOUT_S)
        pool = stack.enter_context(workers())
        for turn in range(given.rounds):
            for what, n, callers in PLAN:
                for name in list(servers)[:: 1 if turn % 2 else -1]:
                    asker = (TagAsker if what == "tag" else EngineAsker)(servers[name].url)
                    figures = measure(pool, asker, asked[n], callers, given.duration_s, MOST_PER_S)
                    results["measurements"].append({"copy": name, "asked": what, "new_tokens": n, **figures})
                    print(json.dumps(results["measurements"][-1]), flush=True)
                    given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


def copied(repository: Path, copy: Path, changes: list[str]) -> Path:
    """A copy with a KV cache of a fixed size and the changes; the weights are links, and not in its manifest."""
    shutil.copytree(repository, copy, ignore=shutil.ignore_patterns(manifest.NAME, WEIGHTS))
    version = Path("tensorrt_llm") / "1"
    (copy / version / WEIGHTS).symlink_to((repository / version / WEIGHTS).resolve())
    module = copy / version / "vllm_engine.py"
    text = module.read_text(encoding="utf-8")
    for change in [f"            **vars(settings), =>             **vars(settings), kv_cache_memory_bytes={KV_CACHE_BYTES},", *changes]:
        old, new = change.split(" => ")
        if text.count(old) != 1:
            raise SystemExit(f"{old!r} is {text.count(old)} times in {module}, not once")
        text = text.replace(old, new)
    module.write_text(text, encoding="utf-8")
    files = [str(Path(root, name).relative_to(copy)) for root, _, names in os.walk(copy) for name in names]
    manifest.seal(copy, "model_repository", {}, {}, files)
    return copy


if __name__ == "__main__":
    main()
