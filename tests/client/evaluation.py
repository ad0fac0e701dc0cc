"""What the tests of `pika-tag eval` share: the labelled rows, a server that answers as it is told to, and one run of the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from pika_tagger.cli import main
from tests.support.fake_triton import LABELS, Reply, Request, reply_with

CHILD = "Tớ tên là Nguyễn Văn An"
PIKA = "Chào An, tên cậu đẹp lắm!"
ROWS: list[dict[str, Any]] = [
    {"id": "a", "lang": "vi", "user_last_message": "happy no", "pika_response": PIKA, "emotion": "happy", "celebrate": "no"},
    {
        "id": "b",
        "lang": "vi",
        "user_last_message": "proud yes",
        "pika_response": PIKA,
        "emotion": ["thats_right", "proud"],
        "celebrate": True,
    },
    {"id": "c", "lang": "en", "user_last_message": "sad no", "pika_response": PIKA, "emotion": "happy", "celebrate": False},
    {"id": "d", "lang": "en", "user_last_message": "calm yes", "pika_response": PIKA, "emotion": ["calm"], "celebrate": "no"},
]


def obey(request: Request) -> Reply:
    """Answer with what the child is made to say, in these tests "proud yes" or the like."""
    emotion, celebrate = (request.texts["user_last_message"].split() * 2)[:2]
    return reply_with(emotion if emotion in LABELS else "calm", celebrate if celebrate in ("yes", "no") else "no")


class Evaluation:
    """One run of `pika-tag eval`."""

    def __init__(self, folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.file, self.out, self._url, self._capsys = folder / "labelled.jsonl", folder / "report.json", url, capsys

    def write(self, *rows: dict[str, Any] | str) -> None:
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        self.file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def run(self, *flags: str) -> tuple[int, str, str]:
        status = main(["eval", str(self.file), "--url", self._url, "--json", str(self.out), *flags])
        shown = self._capsys.readouterr()
        return status, shown.out, shown.err

    @property
    def report(self) -> Any:
        return json.loads(self.out.read_text(encoding="utf-8"))
