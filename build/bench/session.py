"""The runs against one endpoint as a file: what was asked and what came, so that reports and comparisons can be made later, elsewhere.

No text of a dialogue is in it: rows are named by line and id, with their labels. A new field is written and read here, side by side.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.bench.endpoints import Answer, Endpoint
from build.bench.measure import Measured, Offer
from build.bench.metrics import json_of
from build.errors import PipelineError
from pika_tagger import __version__
from pika_tagger._labelled import Labelled, Row
from pika_tagger._load import Load

_MS_DIGITS = 3


@dataclass(frozen=True)
class Session:
    """Runs against one endpoint over one file.

    Attributes:
        about: The endpoint in its own words; `name` is always there.
        file: Name of the file with the dialogues.
        sha256: Of that file.
        rows: The labelled dialogues by line; without texts if the session was read from a file.
        runs: One or more.
    """

    about: Mapping[str, Any]
    file: str
    sha256: str
    rows: Mapping[int, Row]
    runs: tuple[Measured, ...]

    @classmethod
    def of(cls, endpoint: Endpoint, labelled: Labelled, runs: tuple[Measured, ...]) -> "Session":
        """Put together what was just measured."""
        return cls(endpoint.about, labelled.path.name, labelled.sha256, {row.line: row for row in labelled.rows}, runs)

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return str(self.about["name"])

    def json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {
            "endpoint": dict(self.about),
            "client_version": __version__,
            "file": self.file,
            "file_sha256": self.sha256,
            "dialogues": [
                {"line": row.line, "id": row.id, "lang": row.lang, "emotion": row.emotions, "celebrate": row.celebrate}
                for row in self.rows.values()
            ],
            "runs": [self._run_json(run) for run in self.runs],
        }

    def _run_json(self, run: Measured) -> dict[str, Any]:
        offer, answers = run.offer, run.answers
        return {
            "name": run.name,
            # JSON knows no infinity
            "offer": {**vars(offer), "rate_hz": None if offer.rate_hz is None else str(offer.rate_hz)},
            "seconds": run.load.seconds,
            **json_of(run, self.rows),
            "server": run.split,
            "answers": [_answer_json(answer, answers[0].due_s) for answer in answers],
        }


def read(path: Path) -> Session:
    """Return the session in a file that `Session.json` made.

    Raises:
        PipelineError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(each["line"], each["id"], {}, tuple(each["emotion"]), each["celebrate"], each["lang"]) for each in content["dialogues"]]
        runs = tuple(map(_run_of, content["runs"]))
        if not runs or not all(run.answers for run in runs):
            raise ValueError("no run in it")
        about = dict(content["endpoint"])
        return Session({"name": str(about.pop("name")), **about}, content["file"], content["file_sha256"], {r.line: r for r in rows}, runs)
    except OSError as error:
        raise PipelineError(f"{path} cannot be read ({error.strerror}): give a file that `measure --json` wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"{path} is no result of `measure` ({type(error).__name__}: {error}): give a file that `measure --json` wrote"
        ) from None


def _answer_json(answer: Answer, first_due_s: float) -> dict[str, Any]:
    return {
        "line": answer.line,
        "due_ms": round((answer.due_s - first_due_s) * 1000, _MS_DIGITS),
        "latency_ms": round(answer.latency_ms, _MS_DIGITS),
        "failure": answer.failure,
        "pieces_ms": [round(each, _MS_DIGITS) for each in answer.pieces_ms],
        "output_tokens": answer.output_tokens,
        "emotion_name": answer.emotion_name,
        "celebrate": answer.celebrate,
        "cut": answer.cut,
    }


def _run_of(content: dict[str, Any]) -> Measured:
    offer = dict(content["offer"])
    rate_hz = None if offer.pop("rate_hz") is None else float(content["offer"]["rate_hz"])
    answers = tuple(
        Answer(
            latency_ms=each["latency_ms"],
            failure=each["failure"],
            line=each["line"],
            due_s=each["due_ms"] / 1000,
            pieces_ms=tuple(each["pieces_ms"]),
            output_tokens=each["output_tokens"],
            emotion_name=each["emotion_name"],
            celebrate=each["celebrate"],
            cut=each["cut"],
        )
        for each in content["answers"]
    )
    return Measured(content["name"], Load(answers, content["seconds"]), content["server"], Offer(rate_hz=rate_hz, **offer))
