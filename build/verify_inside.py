"""Run where the tagger is served, by that Python: which ids does it make of the dialogues, and which models does NVIDIA's image bring?

    python3 verify_inside.py FOLDER

reads FOLDER/question.json and writes FOLDER/answer.json, because the image's start script prints on stdout. `build.verify_served` asks.
Nothing may be imported here but the standard library and what the tagger itself needs: the tagger's own code, and tokenizers.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path


def main(folder: Path) -> None:
    """Answer the question."""
    question = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    tagger = Path(question["tagger"])
    sys.path.insert(0, str(tagger))
    from one_pass import Dialogue, Prompt, Task, TextCodec

    prompt = Prompt(Task.load(tagger / "task.toml"), TextCodec.load(tagger / "tokenizer.json"), question["tokens_per_block"])
    templates = sorted(Path(question["templates"]).glob("*/config.pbtxt"))
    answer = {
        "tokenizers": version("tokenizers"),
        "ids": [prompt.encode(Dialogue(**dialogue)) for dialogue in question["dialogues"]],
        "templates": {path.parent.name: path.read_text(encoding="utf-8") for path in templates},
    }
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
