"""The HTML report: one file, without scripts, with its pictures inside, that can be sent to somebody.

What stands in it is decided here; how it looks, in `report.html.jinja`.
"""

from pathlib import Path

import jinja2

from build.bench import pictures
from build.bench.block import block
from build.bench.compare import Verdict
from build.bench.findings import findings
from build.bench.meanings import MEANINGS
from build.bench.session import Session
from build.bench.verdict import sentences, tables
from pika_tagger import _bench_picture

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def report(sessions: list[Session], verdict: Verdict | None = None) -> bytes:
    """Return the page.

    Args:
        sessions: Whose runs are shown.
        verdict: Of their comparison, if there was one.
    """
    parts = [
        {
            "session": session,
            "about": {name: value for name, value in session.about.items() if name != "name"},
            "curves": pictures.as_url(_bench_picture.picture(session.runs)),
            "runs": [
                {
                    "name": run.name,
                    "block": "\n".join(block(session.name, run, session.rows)),
                    "findings": findings(run),
                    "arrivals": pictures.as_url(pictures.arrivals_picture(run)),
                    "split": run.split,
                }
                for run in session.runs
            ],
        }
        for session in sessions
    ]
    comparison = None
    if verdict is not None:
        comparison = {
            "sentences": list(sentences(verdict)),
            "tables": list(tables(verdict)),
            "picture": pictures.as_url(pictures.pair_picture(verdict.names, verdict.latencies_ms)),
        }
    page = _TEMPLATES.get_template("report.html.jinja").render(parts=parts, meanings=MEANINGS, comparison=comparison)
    return page.encode()
