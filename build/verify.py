"""Task `verify`: is the engine that is being served the one of our checkpoint? `python -m build.verify [--help]`.

It asks a running server, whatever target it serves, and gives a verdict: exit status 0 pass, 1 fail, 2 if something could not be asked.
What is compared is in `build.verify_checks`, with what in `build.verify_reference`.
"""

import argparse
import sys
from collections.abc import Iterator

from build import manifest, settings, verify_checks, verify_prompts, verify_reference
from build.errors import PipelineError
from build.server_options import LOOPBACK
from build.settings import Model, Ports, Target
from build.verify_engine import connected
from build.verify_report import Finding, Outcome, Report
from build.verify_served import look_inside
from pika_tagger import TaggerError


def verify(model: Model, target: Target, gpu_index: int, url: str) -> Report:
    """Look at everything.

    Args:
        model: its AWQ checkpoint, and its model repository for the target, exist.
        target: where it is served.
        gpu_index: the GPU for a short look into the image, as nvidia-smi counts them.
        url: HOST:PORT of the server's gRPC endpoint.

    Raises:
        ManifestError: the checkpoint or the model repository is not there or damaged.
        CheckpointError: the checkpoint is not one that a reference can be made of.
        PromptError: task and tokenizer do not fit together.
        ServerError: the server cannot be asked.
    """
    return Report(model.name, target.name, tuple(_findings(model, target, gpu_index, url)))


def _findings(model: Model, target: Target, gpu_index: int, url: str) -> Iterator[Finding]:
    repository = model.folder / f"triton-{target.name}"
    manifest.read(repository)
    prompts = verify_prompts.load(model.task_file, model.folder / "awq" / "tokenizer.json", target.tokens_per_block)
    with connected(url) as engine:
        yield verify_checks.served_contract(engine.config)
        reference = verify_reference.find_or_make(model, prompts)
        answers = engine.ask(prompts.ids)
    yield verify_checks.logits(prompts, reference, answers)
    yield verify_checks.kv_reuse(prompts, answers)
    try:
        inside = look_inside(repository / "tagger" / "1", verify_prompts.dialogues(), target, gpu_index)
    except PipelineError as error:
        yield Finding("token ids", Outcome.NOT_ASKED, str(error))
        return
    yield verify_checks.token_ids(prompts.ids, inside)
    if target.gpu is not None:
        yield verify_checks.image_contract(inside.templates)


def main(arguments: list[str] | None = None) -> int:
    """Print the report; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m build.verify", description="Is the engine that is served the one of our checkpoint?")
    parser.add_argument("--model", default="pika-tiny", help="default: %(default)s")
    parser.add_argument("--target", default="cpu", help="default: %(default)s")
    parser.add_argument("--gpu", default="0", help="the GPU, as nvidia-smi counts them (default: %(default)s)")
    parser.add_argument("--url", default=f"{LOOPBACK}:{Ports().grpc_port}", help="HOST:PORT of gRPC (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    given = parser.parse_args(arguments)
    try:
        report = verify(settings.model(given.model), settings.target(given.target), settings.gpu_index(given.gpu), given.url)
    except (PipelineError, TaggerError) as error:
        print(f"error: {error}\nNO VERDICT: nothing was compared", file=sys.stderr)
        return 2
    print(report.json() if given.json else report.text(), flush=True)
    return report.exit_status


if __name__ == "__main__":
    sys.exit(main())
