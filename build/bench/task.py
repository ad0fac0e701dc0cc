"""Task `bench`: serve what is built, and put one-pass tagging beside what there is now, in one page.

A is the strategy `json` of the same server, or an OpenAI-compatible server that is given; B is the strategy `codes`. They are asked in
turn, which is what the verdict is about, and then each by itself under load.
"""

from pathlib import Path

from build import manifest
from build.bench.block import block, remarks
from build.bench.compare import compare
from build.bench.measure import Offer
from build.bench.verdict import json_of, sentences
from build.evaluate import checked
from build.interrupts import interruptible
from build.ports import free_ports
from build.serve import running
from build.server_options import GRPC_KEY_HEADER
from build.settings import Model, Ports, Target
from one_pass import Task
from pika_tagger._files import write_bytes, write_json

REPORT, PAGE = "report.json", "report.html"
OFFERS = (Offer(400, callers=1), Offer(400, callers=4), Offer(400, rate_hz=20.0))
TOOLS = ("httpx", "matplotlib", "nvidia-pytriton", "onnxruntime-genai")


def bench(model: Model, target: Target, ports: Ports | None, data: Path, endpoint: str | None) -> None:
    """Make `model.folder / "bench-<target>"` with a page and the same as JSON, and print the result.

    Args:
        model: what to measure; its model repository exists.
        target: where it is served.
        ports: where to serve it; None takes free ones.
        data: labelled dialogues.
        endpoint: url of an OpenAI-compatible server to compare with; None compares with the strategy `json`.

    Raises:
        SettingError: the dialogues cannot be used.
        ManifestError: a stage before this one has not finished, or its folder was changed.
        PipelineError: the server could not be started, or the endpoint does not answer.
    """
    # Here, because httpx and matplotlib are slow to import, and every other task does without.
    from build.bench.asked import How, sessions_in_turn
    from build.bench.report import report

    repository = model.folder / f"triton-{target.name}"
    labelled = checked(data, Task.load(repository / "tagger" / "1" / "task.toml"))
    inputs = {"repository": manifest.read(repository).content_hash, "data": labelled.sha256}
    settings = {"data": str(data), "endpoint": endpoint}
    final = model.folder / f"bench-{target.name}"
    with interruptible(), manifest.new_folder(final, "bench", inputs, settings, manifest.versions(*TOOLS)) as draft:
        with running(repository, ports or free_ports(), model.folder / "bench.log") as server:
            print(f"starting tritonserver on {server.url} (its log: {model.folder / 'bench.log'})", flush=True)
            server.wait_until_ready()
            ours = f"grpc://{server.url}"
            how = How(task=model.task, metadata={GRPC_KEY_HEADER: server.access.admin_key})
            print("asking A and B in turn, then each under load: a minute or more", flush=True)
            sessions = sessions_in_turn([endpoint or f"{ours}/json", f"{ours}/codes"], labelled, how, 1, OFFERS)
        verdict = compare(*sessions)
        write_json(draft.path / REPORT, {**json_of(verdict), "sessions": [session.json() for session in sessions]})
        write_bytes(draft.path / PAGE, report(sessions, verdict))
    for session in sessions:
        for run in session.runs:
            print("\n".join(["", *block(session.name, run, session.rows), *remarks(run)]))
    print("\n".join(["", *sentences(verdict), "", f"the page is {final / PAGE}"]), flush=True)
