"""Task `demo`: serve what the pipeline has built, tag sample dialogues through the gRPC client, print a table, stop the server."""

import json
import math
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from build import ROOT
from build.interrupts import interruptible
from build.serve import running
from build.settings import Model, Ports, Target
from pika_tagger import Tag, TaggerClient

DIALOGUES = ROOT / "build" / "demo_dialogues.jsonl"
_MIN_WIDTH = 100


def demo(model: Model, target: Target, ports: Ports) -> None:
    """Serve, tag, print, stop. Raises as `serve.running` and as the client."""
    dialogues = [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    log = model.folder / "serve.log"
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _MIN_WIDTH)
    with interruptible(), running(model.folder / f"triton-{target.name}", ports, log) as server:
        console.print(f"starting tritonserver on {server.url} (its log: {_shown(log)})")
        server.wait_until_ready()
        console.print("ready: a first tag has come back")
        with TaggerClient(server.url, budget_ms=math.inf, on_failure="raise") as client:
            tags = [client.tag(**dialogue) for dialogue in dialogues]
        console.print(_table(dialogues, tags))
        p50_ms, p95_ms = np.percentile([tag.latency_ms for tag in tags], [50, 95])
        console.print(f"{len(tags)} tags over gRPC: p50 {p50_ms:.1f} ms, p95 {p95_ms:.1f} ms. Stopping the server.")


def _table(dialogues: list[dict[str, str]], tags: list[Tag]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("child", "Pika"):
        table.add_column(column, overflow="fold", ratio=1)
    for column in ("emotion", "celebrate"):
        table.add_column(column, no_wrap=True)
    for column in ("confidence", "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for dialogue, tag in zip(dialogues, tags, strict=True):
        table.add_row(
            dialogue["user_last_message"],
            dialogue["pika_response"],
            tag.emotion_name,
            "[bold green]yes[/]" if tag.celebrate else "no",
            f"{tag.confidence:.0%}",
            f"{tag.latency_ms:.1f}",
        )
    return table


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))
