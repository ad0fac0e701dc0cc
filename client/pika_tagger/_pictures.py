"""The pictures of a report: confusion, reliability, celebrations.

Everything drawn is also a number in the report file. Needs matplotlib, the extra `report` of this distribution, and is imported by nobody
else. A new picture is a function here and a line in `write`.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pika_tagger._agreement import Confusion
from pika_tagger._calibration import BINS, Calibration
from pika_tagger._evaluate import Figures
from pika_tagger._files import write_bytes
from pika_tagger._tables import share_text
from pika_tagger._thresholds import STEPS, Thresholds

CONFUSION, RELIABILITY, CELEBRATE = "confusion.png", "reliability.png", "celebrate.png"
BLUE, ORANGE, GREY = "#2166ac", "#d6604d", "#777777"  # told apart without seeing red or green

_DOTS_PER_INCH = 150
_CELL_INCHES = 0.58
_FEWEST_CELLS = 6
"""As many cells are made room for, so that the title fits above a small table too."""
_DARK = 0.55
"""Share from which a cell is so dark that its number must be white."""


def write(figures: Figures, folder: Path, strategy: str) -> None:
    """Put the three pictures into `folder`, each whole or not at all.

    Raises:
        OSError: One cannot be written.
    """
    pictures = {
        CONFUSION: confusion_picture(figures, strategy),
        RELIABILITY: reliability_picture(figures, strategy),
        CELEBRATE: celebrate_picture(figures, strategy),
    }
    for name, picture in pictures.items():
        write_png(picture, folder / name)


def write_png(picture: Figure, path: Path) -> None:
    """Write one picture, whole or not at all."""
    png = io.BytesIO()
    picture.savefig(png, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    write_bytes(path, png.getvalue())


def confusion_picture(figures: Figures, strategy: str) -> Figure:
    """Return which label was taken for which: counts in the cells, colour by share of the row; labels that do not occur are left out."""
    confusion = figures.emotion_confusion
    names, rows = _occurring(confusion)
    columns = [*names, "request failed"] if any(confusion.failed) else names
    width, height = (margin + _CELL_INCHES * max(len(each), _FEWEST_CELLS) for margin, each in ((2.6, columns), (1.7, names)))
    picture = Figure(figsize=(width, height), layout="constrained")
    axes = picture.add_subplot()
    image = draw_confusion(axes, rows, [f"{name} ({sum(row)})" for name, row in zip(names, rows, strict=True)], columns)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (how often)")
    axes.set_title(
        f"Emotions, strategy {strategy}\n"
        f"{figures.emotion.total} dialogues, accuracy {share_text(figures.emotion.accuracy)}, macro-F1 {confusion.macro_f1:.3f}"
    )
    picture.colorbar(image, ax=axes, label="share of the row", shrink=0.6)
    return picture


def draw_confusion(axes: Axes, counts: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str]) -> AxesImage:
    """Draw a table of counts, true in rows and predicted in columns: the counts in the cells, colour by share of the row.

    Args:
        axes: Where to.
        counts: One row for each of `rows`, in it one count for each of `columns`.
        rows: What stands beside the rows.
        columns: What stands below the columns.

    Returns:
        The coloured cells, for a bar that says what their colours mean.
    """
    cells = np.array(counts)
    support = cells.sum(axis=1, keepdims=True)
    shares = np.divide(cells, support, out=np.zeros(cells.shape), where=support > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(cells):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > _DARK else "black")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    return image


def reliability_picture(figures: Figures, strategy: str) -> Figure:
    """Return how often answers are right over how sure the tagger was of them, for both fields."""
    picture = Figure(figsize=(11, 5.4), layout="constrained")
    picture.suptitle(f"Right as often as sure? Strategy {strategy}")
    both = (("emotion", figures.emotion_calibration), ("celebrate", figures.celebrate_calibration))
    for axes, (name, calibration) in zip(picture.subplots(1, 2, sharey=True), both, strict=True):
        _reliability(axes, calibration)
        axes.set_title(f"{name}: ECE {share_text(calibration.expected_error)}, {calibration.count} answers")
        axes.set_xlabel("how sure the tagger was")
    picture.axes[0].set_ylabel("share that was right")
    picture.axes[0].legend(loc="upper left")
    return picture


def celebrate_picture(figures: Figures, strategy: str) -> Figure:
    """Return precision and recall of celebrating, and how many celebrations were false or missed, over the threshold."""
    found, yes = figures.celebrate_thresholds, figures.celebrate_yes
    picture = Figure(figsize=(8, 7), layout="constrained")
    picture.suptitle(
        f"Celebrations, strategy {strategy}\n{figures.celebrate.total} dialogues of which {yes.support} are to be celebrated\n"
        f"now: {yes.false} false, {yes.missed} missed, precision {share_text(yes.precision)}, recall {share_text(yes.recall)}"
    )
    above, below = picture.subplots(2, 1, sharex=True)
    _lines(above, {"precision": [each.precision for each in found.figures], "recall": [each.recall for each in found.figures]})
    above.set_ylabel("share")
    _lines(below, {"false celebrations": _of(found, "false"), "missed celebrations": _of(found, "missed")})
    below.set_ylabel("dialogues")
    below.yaxis.get_major_locator().set_params(integer=True)
    below.set_ylim(bottom=0)
    below.set_xlabel("threshold: celebrate from this probability of yes on")
    below.set_xlim(0.0, 1.0)
    for axes in (above, below):
        _mark_present(axes, found)
        axes.grid(color="#e5e5e5")
    above.legend()
    below.legend(loc="upper center")
    return picture


def _occurring(confusion: Confusion) -> tuple[list[str], list[list[int]]]:
    """Return the labels that are true or predicted anywhere, and their counts, with failed requests as a last column if there are any."""
    kept = [index for index, figures in enumerate(confusion.by_label().values()) if figures.f1 is not None]
    failed = [[confusion.failed[row]] if any(confusion.failed) else [] for row in kept]
    rows = [[confusion.counts[row][column] for column in kept] + last for row, last in zip(kept, failed, strict=True)]
    return [confusion.labels[index] for index in kept], rows


def _reliability(axes: Axes, calibration: Calibration) -> None:
    bins = [each for each in calibration.bins if each.count]
    middles, right = [(each.low + each.high) / 2 for each in bins], [each.right / each.count for each in bins]
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="right as often as sure")
    axes.bar(middles, right, width=1 / BINS, color=BLUE, alpha=0.35, edgecolor=BLUE, label="right")
    axes.plot(
        [each.confidence_sum / each.count for each in bins],
        right,
        color=BLUE,
        marker="o",
        linestyle="none",
        clip_on=False,
        label="at the mean confidence of the bin",
    )
    for each, middle, height in zip(bins, middles, right, strict=True):
        axes.annotate(str(each.count), (middle, height), (0, 6), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.1)
    axes.set_xticks([each.low for each in calibration.bins] + [1.0])
    axes.grid(color="#e5e5e5")
    axes.set_axisbelow(True)


def _lines(axes: Axes, values: dict[str, list[float | None]]) -> None:
    for (name, line), colour, marker in zip(values.items(), (BLUE, ORANGE), "os", strict=True):
        axes.plot(STEPS, [np.nan if value is None else value for value in line], color=colour, marker=marker, label=name)


def _of(found: Thresholds, name: str) -> list[float | None]:
    return [float(getattr(each, name)) for each in found.figures]


def _mark_present(axes: Axes, found: Thresholds) -> None:
    if found.present is None:
        return
    low, high = found.present
    if low == high:
        axes.axvline(high, color=GREY, linestyle=":", label=f"present threshold, {high:.2f}")
    else:
        axes.axvspan(low, high, color=GREY, alpha=0.25, label=f"present threshold, between {low:.2f} and {high:.2f}")
