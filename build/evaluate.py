"""Task `evaluate`: how good a built model is on labelled dialogues, by every strategy, and what quantization has cost.

The strategies are asked for through the real server and client, one after the other; the unquantized checkpoint is asked in this process
once the server has stopped, so that only one of them holds memory. Figures are made by the client's own modules: `pika-tag eval` on the
same server gives the same. A new setting is added to `SETTINGS` and `Asked`.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from build import ROOT, manifest
from build.comparison import AWQ, UNQUANTIZED, Run, differences, lost_too_much, summary, summary_json
from build.errors import PipelineError, ServerError, SettingError
from build.interrupts import interruptible
from build.ports import free_ports
from build.serve import running
from build.settings import Model, Ports, Target
from one_pass import STRATEGIES, Task
from pika_tagger import InvalidRequestError, TaggerClient
from pika_tagger._files import write_bytes, write_json
from pika_tagger._labelled import BadFileError, Labelled, load, shortened
from pika_tagger._outcomes import first_answer, run
from pika_tagger._render import progress, report
from pika_tagger._wanted import Wanted, missed

SETTINGS = ("data", "min_emotion", "min_celebrate", "max_ece", "max_awq_loss")
DIALOGUES = ROOT / "tests" / "data" / "eval_dialogues.jsonl"
TOOLS = ("torch", "transformers", "tokenizers", "matplotlib", "nvidia-pytriton", "onnxruntime-genai")
_PATIENCE_S = 30.0
"""Deadline of one call: a slow answer should be seen as slow, not as failed."""


@dataclass(frozen=True)
class Asked:
    """What to evaluate on, and which limits must hold; limits are about strategy codes with AWQ weights."""

    data: Path
    wanted: Wanted
    max_awq_loss: float | None


def asked(given: Mapping[str, str | None]) -> Asked:
    """Read `SETTINGS` as given to doit, None where nothing is given.

    Raises:
        SettingError: the file is not there, or a limit is no share.
    """
    data = Path(given["data"] or DIALOGUES)
    if given["data"] and not data.is_file():  # told before hours of building; our own file is needed by this task alone
        raise SettingError(f"data={data} is not a file; give labelled JSON lines, as docs/evaluation.md shows")
    limits = {name: _share(name, text) for name in SETTINGS[1:] if (text := given[name]) is not None}
    max_awq_loss = limits.pop("max_awq_loss", None)
    return Asked(data, Wanted(**limits), max_awq_loss)


def evaluate(model: Model, target: Target, ports: Ports | None, what: Asked) -> None:
    """Make `model.folder / "evaluation-<target>"` and print what is in its report.txt.

    Args:
        model: what to evaluate; its model repository exists.
        target: where it is served.
        ports: where to serve it; None takes free ports.
        what: dialogues and limits.

    Raises:
        SettingError: the dialogues cannot be used.
        ManifestError: a stage before this one has not finished, or its folder was changed.
        ServerError: the server could not be started, or refuses to be asked for codes.
        PipelineError: a request failed or a limit was missed; the folder is there nevertheless.
    """
    try:
        from pika_tagger import _pictures  # here, because matplotlib is slow to import and every other task does without
    except ImportError as error:
        raise PipelineError(f"the pictures need matplotlib, which cannot be imported ({error}): run `make install`") from error

    repository, checkpoint = model.folder / f"triton-{target.name}", model.folder / "hf"
    built = {"repository": manifest.read(repository).content_hash, "hf": manifest.read(checkpoint).content_hash}
    task = Task.load(repository / "tagger" / "1" / "task.toml")
    labelled = checked(what.data, task)
    inputs = {**built, "data": labelled.sha256}
    settings = {"data": str(what.data), **asdict(what.wanted), "max_awq_loss": what.max_awq_loss}
    final = model.folder / f"evaluation-{target.name}"
    with interruptible(), manifest.new_folder(final, "evaluate", inputs, settings, manifest.versions(*TOOLS)) as draft:
        served = list(_served(repository, ports or free_ports(), model.folder / "evaluate.log", labelled))
        codes = served[0]
        if codes.figures is None:
            raise ServerError(f"the server cannot be asked for codes: {codes.refusal}")
        unquantized = _unquantized(checkpoint, task, target, labelled)
        runs = [*served, unquantized]
        figures = replace(codes.figures, celebrate_thresholds=codes.figures.celebrate_thresholds.at(task.flag_threshold))
        changed = differences(codes, unquantized)
        text = "\n".join(
            [
                f"{model.name} on target {target.name}, {len(labelled.rows)} dialogues of {what.data.name}\n",
                *summary(runs, changed),
                "\n",
                *report(figures, codes.outcomes, conditions=f"strategy codes, {AWQ} weights, no pause between requests", show_text=False),
            ]
        )
        content = {
            "model": model.name,
            "target": target.name,
            "settings": {**settings, "data_sha256": labelled.sha256, "celebrate_threshold": task.flag_threshold},
            **summary_json(runs, changed),
        }
        write_json(draft.path / "report.json", content)
        write_bytes(draft.path / "report.txt", f"{text}\n".encode())
        _pictures.write(figures, draft.path, f"codes, {model.name} {AWQ}")
    print(f"\n{text}\n\nall of it, the answers and pictures are in {final}", flush=True)
    if problems := [*missed(figures, what.wanted), *lost_too_much(changed, what.max_awq_loss)]:
        raise PipelineError("\n  ".join(["the model is not as good as asked for:", *problems]))


def _served(repository: Path, ports: Ports, log: Path, labelled: Labelled) -> Iterator[Run]:
    """One run per strategy through the server, which is stopped at the end."""
    with running(repository, ports, log) as server:
        print(f"starting tritonserver on {server.url} (its log: {log})", flush=True)
        server.wait_until_ready()
        with TaggerClient(server.url, timeout_s=_PATIENCE_S) as tagger:
            for strategy in STRATEGIES:
                yield _ask(tagger, strategy, labelled)


def _ask(tagger: TaggerClient, strategy: str, labelled: Labelled) -> Run:
    print(f"asking for {strategy}", flush=True)
    try:
        first_answer(tagger, strategy)
    except InvalidRequestError as error:
        return Run(strategy, AWQ, (), str(error))
    outcomes = progress(run(tagger, labelled.rows, gap_ms=0.0, strategy=strategy), len(labelled.rows), sys.stderr)
    return Run(strategy, AWQ, tuple(outcomes))


def _unquantized(checkpoint: Path, task: Task, target: Target, labelled: Labelled) -> Run:
    from build.unquantized import Unquantized  # here, because torch is slow to import and most tasks do without

    network = Unquantized(checkpoint, task, target.tokens_per_block)
    print(f"asking the unquantized checkpoint, {network.arithmetic}", flush=True)
    return Run(STRATEGIES[0], UNQUANTIZED, tuple(progress(network.outcomes(labelled.rows), len(labelled.rows), sys.stderr)))


def checked(data: Path, task: Task) -> Labelled:
    """Return the labelled dialogues of a file.

    Raises:
        SettingError: It cannot be read, or uses labels that the task does not have.
    """
    try:
        labelled = load(data)
        labelled.check_labels(task.label_names)
    except BadFileError as error:
        raise SettingError("\n  ".join([f"data={data} cannot be used:", *shortened(error.problems)])) from None
    return labelled


def _share(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise SettingError(f"{name}={text} is no share; give a number between 0 and 1, such as 0.95 for 95 %")
    return value
