"""What a GPU engine was built with, in a file beside it: TensorRT-LLM's own config.json has neither GPU nor driver nor TensorRT's version.

    python3 -m build.engine_record ENGINE_DIR

is what a container does before it starts a server: whether the engine, in its own folder or in a model repository, is whole, and was built
for this machine. TensorRT finds the same out later, in words that name neither side. Only the standard library is needed. A new field is
one in `EngineRecord`, and in `differences` if an engine cannot do without.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from build import manifest
from build.container import Machine, Place, look
from build.errors import EngineError, PipelineError

NAME = "engine_record.json"
_HERE = Place("this machine", ("env",), 0)


@dataclass(frozen=True)
class EngineRecord:
    """How an engine came to be, and what it can hold."""

    target: str
    built_in: str
    machine: Machine
    checkpoint_hash: str
    """Content hash of the TensorRT-LLM checkpoint."""
    awq_hash: str
    """Content hash of the AWQ checkpoint that this was converted from: its tokenizer is the engine's."""
    flags: tuple[str, ...]
    max_batch_size: int
    max_seq_len: int
    tokens_per_block: int


def write(record: EngineRecord, folder: Path) -> None:
    """Put the record beside the engine."""
    (folder / NAME).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> EngineRecord:
    """The record of an engine.

    Raises:
        EngineError: there is none, or it cannot be read.
    """
    try:
        raw = json.loads((folder / NAME).read_text(encoding="utf-8"))
        machine, flags = Machine(**raw.pop("machine")), tuple(raw.pop("flags"))
        return EngineRecord(machine=machine, flags=flags, **raw)
    except FileNotFoundError:
        raise EngineError(f"{folder} has no {NAME}: build the engine again with `doit build_engine`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{folder / NAME} is damaged ({error}): build the engine again with `doit build_engine`") from error


def differences(built: Machine, other: Machine, other_side: str) -> str:
    """Why an engine that was built on one machine will not do on another, a line for each thing; empty if it will.

    Args:
        built: as the engine was built.
        other: what it is compared with. Of drivers only the branch counts.
        other_side: what to call that, as in "here is".
    """
    pairs = (
        ("TensorRT-LLM", built.tensorrt_llm, other.tensorrt_llm),
        ("TensorRT", built.tensorrt, other.tensorrt),
        ("GPU", built.gpu, other.gpu),
        ("compute capability", built.compute_capability, other.compute_capability),
        ("driver branch", built.driver.partition(".")[0], other.driver.partition(".")[0]),
    )
    return "\n".join(f"  {name}: built with {then}, {other_side} {now}" for name, then, now in pairs if then != now)


def require(folder: Path, here: Machine) -> None:
    """Refuse an engine that was built for another machine.

    Raises:
        EngineError: as `read`, or something differs; the message names both sides of each.
    """
    if found := differences(read(folder).machine, here, "here is"):
        raise EngineError(f"the engine in {folder} was built for another machine:\n{found}\nBuild it again here: `doit build_engine`")


def require_whole(folder: Path) -> None:
    """Refuse an engine or a model repository that was cut short, changed or left without its tokenizer; every file of it is hashed.

    Raises:
        EngineError: no manifest in the folder, or in one that it lies in, lists the record.
        ManifestError: a file is missing, or is not what that manifest says.
    """
    path = folder.resolve() / NAME
    for stage in path.parents:
        if (stage / manifest.NAME).is_file() and str(path.relative_to(stage)) in manifest.verify_contents(stage).files:
            return
    raise EngineError(f"no {manifest.NAME} lists {path}, so nobody can tell whether it is whole: give the folder as the pipeline made it")


def main(arguments: list[str]) -> int:
    """Command line. Returns the exit code: 0 if the engine is whole and fits this machine, else 1 with the reasons on stderr."""
    if len(arguments) != 1:
        print("usage: python3 -m build.engine_record ENGINE_DIR", file=sys.stderr)
        return 2
    try:
        folder = Path(arguments[0])
        read(folder)  # the most likely mistake, another folder, is told first
        require_whole(folder)
        require(folder, look(_HERE))
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
