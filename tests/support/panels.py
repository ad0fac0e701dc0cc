"""The dashboard's panels over the figures of a real Prometheus, drawn without Grafana: docs/pictures/monitoring.png is made by this."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from build import dashboard

_COLUMNS = 3
_UNITS = {"ms": (1.0, "ms"), "percentunit": (100.0, "%"), "reqps": (1.0, "requests/s"), "short": (1.0, "")}


@dataclass(frozen=True)
class Curve:
    """A series that Prometheus has answered with."""

    labels: Mapping[str, str]
    times_s: Sequence[float]
    """Unix time of each value."""
    values: Sequence[float]


Ask = Callable[[str], list[Curve]]
"""From a query to what it gives."""


def draw(ask: Ask, file: Path) -> None:
    """Draw every panel that has curves, three in a row, over minutes before now."""
    graphs = [graph for _, row in dashboard.ROWS for graph in row]
    found = [(graph, [(name, curve) for query, name in graph.queries for curve in ask(query)]) for graph in graphs]
    drawn = [(graph, curves) for graph, curves in found if curves]
    rows = -(-len(drawn) // _COLUMNS)
    figure = Figure(figsize=(5.2 * _COLUMNS, 3.1 * rows), dpi=90, layout="constrained")
    now_s = time.time()
    first_s = min(curve.times_s[0] for _, curves in drawn for _, curve in curves)
    for axes, (graph, curves) in zip(figure.subplots(rows, _COLUMNS, squeeze=False).flat, drawn, strict=False):
        factor, unit = _UNITS[graph.unit]
        for name, curve in curves:
            label = _filled(name, curve.labels)
            minutes = [(moment_s - now_s) / 60 for moment_s in curve.times_s]
            axes.plot(minutes, [value * factor for value in curve.values], label=label, linewidth=1.2)
        axes.set_title(graph.title, fontsize=10, loc="left")
        axes.set_ylabel(unit)
        axes.set_xlim((first_s - now_s) / 60, 0)
        axes.set_ylim(0, 105 if unit == "%" else None)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6, loc="best", ncols=2 if len(curves) > 6 else 1, framealpha=0.6)
    for axes in list(figure.axes)[len(drawn) :]:
        axes.set_axis_off()
    figure.supxlabel("minutes before the picture was made", fontsize=9)
    figure.savefig(file)


def _filled(name: str, labels: Mapping[str, str]) -> str:
    """A curve's name with the values of its labels, as Grafana fills it in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), name)
