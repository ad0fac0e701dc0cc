"""Put the threshold that validation has chosen into the prompt file: `python -m build.training.threshold CHECKPOINT_DIR`.

`doit train` does it as its last step. The choice itself, and what a false celebration costs against a missed one, is in `evaluate`.
"""

import argparse
import json
import re
from pathlib import Path

from build import settings

_LINE = re.compile(r"^(threshold = )[\d.]+$", re.MULTILINE)


def store(task_file: Path, threshold: float) -> None:
    """Replace the threshold in a prompt file, and nothing else.

    Raises:
        ValueError: the file has not exactly one line `threshold = NUMBER`.
    """
    text, count = _LINE.subn(lambda found: f"{found[1]}{threshold:g}", task_file.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{task_file} has {count} lines `threshold = NUMBER`; it needs exactly one")
    task_file.write_text(text, encoding="utf-8")


def main() -> None:
    """Read `training.json` of a checkpoint, and change the embedded model's prompt file."""
    parser = argparse.ArgumentParser(description="Put the threshold chosen by validation into the prompt file.")
    parser.add_argument("checkpoint", type=Path, help="folder with training.json")
    threshold = json.loads((parser.parse_args().checkpoint / "training.json").read_text())["threshold_chosen_on_validation"]
    task_file = settings.model("pika-tiny").task_file
    store(task_file, threshold)
    print(f"{task_file.name}: threshold = {threshold:g}, as chosen on validation dialogues")


if __name__ == "__main__":
    main()
