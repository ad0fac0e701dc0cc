"""What a training run looked like, as pictures: `python -m build.training.report CHECKPOINT_DIR OUT_DIR`.

Made from `training.json` alone, so it can be repeated without the GPU. `training_curves.png` has the losses and the validation figures;
`training_confusion.png` which emotion was taken for which in the test split.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from build import settings
from one_pass import Task
from pika_tagger._pictures import draw_confusion

LOSSES = {"code": "the answer letter", "twins": "disagreement of twins", "json": "the JSON answer", "dialogue": "the dialogue's next word"}


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description="Draw the curves and the confusions of a training run.")
    parser.add_argument("checkpoint", type=Path, help="folder with training.json")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    mpl.use("agg")
    training = json.loads((arguments.checkpoint / "training.json").read_text())
    labels = Task.load(settings.model("pika-tiny").task_file).label_names
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, figure in (("curves", curves(training)), ("confusion", confusion(training["test"]["clean"]["confusion"], labels))):
        figure.savefig(arguments.out / f"training_{name}.png", dpi=100)
        print(f"wrote {arguments.out / f'training_{name}.png'}")


def curves(training: dict[str, Any]) -> Figure:
    """Losses and validation accuracy by step."""
    rows = training["curve"]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, meaning in LOSSES.items():
        left.plot(steps, [row[name] for row in rows], label=meaning)
    left.set(title="Losses on training batches", xlabel="step", ylabel="nats", yscale="log")
    for name in ("emotion", "celebrate"):
        right.plot(steps, [row[f"validation_{name}"] for row in rows], marker=".", label=name)
    right.set(title="Accuracy on validation dialogues", xlabel="step", ylabel="share that is right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    made = f"{training['parameters'] / 1e6:.1f} M parameters, seed {training['seed']}"
    figure.suptitle(f"{made}, {training['duration_s']} s on {training['device']}")
    return figure


def confusion(counts: list[list[int]], labels: tuple[str, ...]) -> Figure:
    """Counts of true (rows) and predicted (columns) emotions, coloured by the share of the row."""
    figure = Figure(figsize=(8.6, 7.6), layout="constrained")
    axes = figure.subplots()
    draw_confusion(axes, counts, labels, labels)
    axes.set(xlabel="predicted", ylabel="true", title=f"Held-out frames and dialogues, without noise: {sum(map(sum, counts))} dialogues")
    return figure


if __name__ == "__main__":
    main()
