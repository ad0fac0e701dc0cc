"""A session as a file: what is read is what was written, and nothing of a dialogue is in it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from build.bench.measure import Offer
from build.bench.metrics import json_of
from build.bench.session import Session, read
from build.errors import PipelineError
from pika_tagger._load import Load
from tests.bench.made import failed, run_of, said, session_of

STREAMED = said(1, ms=50.5, due_s=100.0, pieces_ms=(20.25, 30.5), tokens=18)
SESSION = session_of(
    run_of(STREAMED, said(2, "sad", celebrate=False, due_s=101.0), said(3, None, due_s=103.0, cut=True), replace(failed(4), due_s=104.0)),
    run_of(said(1), offer=Offer(1, rate_hz=float("inf"), seed=3), name="all at once"),
)


def written(session: Session, path: Path) -> Path:
    path.write_text(json.dumps(session.json(), allow_nan=False), encoding="utf-8")
    return path


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    found = read(written(SESSION, tmp_path / "run.json"))
    assert [json_of(run, found.rows) for run in found.runs] == [json_of(run, SESSION.rows) for run in SESSION.runs]
    assert [run.offer for run in found.runs] == [run.offer for run in SESSION.runs]
    assert (found.about, found.file, found.sha256) == (SESSION.about, SESSION.file, SESSION.sha256)
    since_first = [replace(answer, due_s=answer.due_s - 100.0) for answer in SESSION.runs[0].answers]
    assert list(found.runs[0].answers) == since_first
    assert found.rows == {line: replace(row, texts={}) for line, row in SESSION.rows.items()}


def test_no_text_of_a_dialogue_is_written(tmp_path: Path) -> None:
    content = written(SESSION, tmp_path / "run.json").read_text(encoding="utf-8")
    assert all(text not in content for row in SESSION.rows.values() for text in row.texts.values())


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"dialogues": [], "runs": [], "endpoint": {"name": "x"}, "file": "f", "file_sha256": "s"}', '{"dialogues": 3}'],
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=r"other\.json is no result of `measure`"):
        read(path)


def test_a_run_without_answers_is_refused(tmp_path: Path) -> None:
    empty = replace(SESSION.runs[1], load=Load((), 1.0))
    content = {**SESSION.json(), "runs": [{**SESSION.json()["runs"][1], "answers": list(empty.answers)}]}
    path = tmp_path / "empty.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PipelineError, match="no run in it"):
        read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"none.json cannot be read"):
        read(tmp_path / "none.json")
