"""Ask the place where the tagger is served, which is NVIDIA's image on a GPU and this environment on a CPU.

What is asked there is in `build.verify_inside`. The tagger's folder is mounted read-only.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from build import container, lock_images, settings, verify_inside
from build.errors import ServerError
from build.settings import Target
from one_pass import Dialogue

TEMPLATES = Path("/app/all_models/inflight_batcher_llm")
"""NVIDIA's models in the image, by the README of TensorRT-LLM's Triton backend 1.0.0."""
_PATIENCE_S = 600.0
_TAIL_LINES = 20


@dataclass(frozen=True)
class Inside:
    """What was found there.

    Attributes:
        place: The image, or that it was here.
        tokenizers: Version of the library.
        ids: Token ids of each prompt, as the served tagger makes them.
        templates: Name of each of NVIDIA's models -> its config.pbtxt; empty where there is no such image.
    """

    place: str
    tokenizers: str
    ids: Sequence[Sequence[int]]
    templates: Mapping[str, str]


def look_inside(tagger: Path, dialogues: Sequence[Dialogue], target: Target, gpu_index: int) -> Inside:
    """Run `build.verify_inside` there.

    Args:
        tagger: the version folder of the tagger in the model repository of the target.
        dialogues: what to make prompts of.
        target: where it is served.
        gpu_index: the GPU to give to the container, as nvidia-smi counts them.

    Raises:
        EngineError: it cannot be asked, because there is neither docker nor TensorRT-LLM on this machine.
        ServerError: it was asked and failed; the message has the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="pika-verify-") as scratch:
        folder = Path(scratch).resolve()
        script = Path(shutil.copy(verify_inside.__file__, folder))
        question = {
            "tagger": str(tagger.resolve()),
            "dialogues": [asdict(dialogue) for dialogue in dialogues],
            "tokens_per_block": target.tokens_per_block,
            "templates": str(TEMPLATES),
        }
        (folder / "question.json").write_text(json.dumps(question), encoding="utf-8")
        arguments = ("-B", str(script), str(folder))  # -B: no compiled files beside the tagger's code
        if target.gpu is None:
            place, command = "this environment", [sys.executable, *arguments]
        else:
            image = settings.container()
            image = replace(image, image=lock_images.locked(image.image) or image.image)
            chosen = container.choose(image, gpu_index, folder, tagger)
            container.require(chosen)
            place, command = chosen.name, chosen.command(["python3", *arguments])
        _run(command, place)
        return Inside(place=place, **json.loads((folder / "answer.json").read_text(encoding="utf-8")))


def _run(command: list[str], place: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{place} cannot be asked for its tokenizer: {error}") from error
    if done.returncode != 0:
        tail = "\n".join(f"{done.stdout}{done.stderr}".strip().splitlines()[-_TAIL_LINES:])
        raise ServerError(f"{place} was asked for its tokenizer and ended with status {done.returncode}:\n{tail}")
