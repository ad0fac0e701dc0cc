"""The pictures of a report. Everything drawn is also in the session file. Needs matplotlib, as `pika_tagger._bench_picture`.

A new picture is a function here and a line in `report`.
"""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from build.bench.measure import Measured
from pika_tagger._bench import LIMITS_MS
from pika_tagger._pictures import BLUE, GREY, ORANGE


def as_url(picture: Figure) -> str:
    """Return a picture as the address of an image that holds it, so that a page needs no file beside it."""
    svg = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        picture.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(svg.getvalue()).decode("ascii")


def arrivals_picture(run: Measured) -> Figure:
    """Return how long the first token and the whole answer of every request took, by when it was due; a slope is a growing line."""
    picture = Figure(figsize=(8, 4), layout="constrained")
    axes = picture.subplots()
    complete = run.complete
    due_s = [answer.due_s - run.answers[0].due_s for answer in complete]
    if any(answer.pieces_ms for answer in complete):
        axes.plot(due_s, [answer.first_ms for answer in complete], ".", color=BLUE, markersize=3, label="first token")
    axes.plot(due_s, [answer.latency_ms for answer in complete], ".", color=ORANGE, markersize=3, label="whole answer")
    axes.set_title(run.name)
    axes.set_xlabel("seconds into the run when the request was due")
    axes.set_ylabel("milliseconds")
    axes.set_ylim(bottom=0)
    axes.grid(color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.legend()
    return picture


def pair_picture(names: Sequence[str], latencies_ms: Sequence[npt.NDArray[np.float64]]) -> Figure:
    """Return which share of requests had their answer after how long, for the two sides of a comparison.

    Args:
        names: Of the two sides.
        latencies_ms: Of the two sides, each of any length above 0.
    """
    picture = Figure(figsize=(8, 4), layout="constrained")
    axes = picture.subplots()
    for side, name, values_ms, colour in zip("AB", names, latencies_ms, (BLUE, ORANGE), strict=True):
        ordered = np.sort(values_ms)
        axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=colour, label=f"{side}: {name}")
    for limit in LIMITS_MS:
        axes.axvline(limit, color=GREY, linestyle=":")
    axes.set_xlim(left=0)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("milliseconds until the answer (dotted: 25 and 50)")
    axes.set_ylabel("share of requests")
    axes.grid(color="#e5e5e5")
    axes.legend(loc="lower right")
    return picture
