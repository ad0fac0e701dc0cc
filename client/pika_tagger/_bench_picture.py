"""The picture of a benchmark: which share of requests had a tag after how many milliseconds, a line for each run.

Needs matplotlib, the extra `report` of this distribution, and is imported by nobody else than `pika-tag bench --pictures`.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pika_tagger._bench import LIMITS_MS, Run
from pika_tagger._pictures import GREY, write_png

LATENCY = "latency.png"


def write(runs: Sequence[Run], folder: Path) -> None:
    """Put the picture into `folder`, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    write_png(picture(runs), folder / LATENCY)


def picture(runs: Sequence[Run]) -> Figure:
    """Return the picture; failed requests keep a line below 1."""
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    for run in runs:
        ordered, total = sorted(run.answered_ms), len(run.load.samples)
        axes.step(ordered, [(place + 1) / total for place in range(len(ordered))], where="post", label=f"{run.name} ({total} requests)")
    for limit in LIMITS_MS:
        axes.axvline(limit, color=GREY, linestyle=":")
        axes.annotate(f"{limit} ms", (limit, 0.02), (4, 0), textcoords="offset points", color=GREY)
    axes.set_xlim(left=0)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("milliseconds until the tag")
    axes.set_ylabel("share of requests")
    axes.grid(color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right")
    return drawn
