"""Runs made up by hand, for the tests of figures."""

from build.bench.endpoints import Answer
from build.bench.measure import Measured, Offer
from build.bench.session import Session
from pika_tagger._labelled import Row
from pika_tagger._load import Load

ONE_CALLER = Offer(0, callers=1)


def said(
    line: int,
    emotion: str | None = "proud",
    celebrate: bool = True,
    ms: float = 10.0,
    due_s: float | None = None,
    failure: str | None = None,
    pieces_ms: tuple[float, ...] = (),
    tokens: int | None = None,
    cut: bool = False,
) -> Answer:
    flag = None if emotion is None else celebrate
    return Answer(ms, failure, line, line if due_s is None else due_s, pieces_ms, tokens, emotion, flag, cut)


def failed(line: int, reason: str = "busy") -> Answer:
    return said(line, None, failure=reason)


def run_of(*answers: Answer, seconds: float = 2.0, offer: Offer = ONE_CALLER, name: str = "1 at a time") -> Measured:
    return Measured(name, Load(answers, seconds), {}, offer)


def rows_of(count: int) -> dict[int, Row]:
    """Rows of lines 1 to `count` that want proud or happy, and a celebration."""
    return {
        line: Row(
            line,
            f"row-{line}",
            {"user_last_message": "<b>said by a child</b>", "pika_response": "said by Pika"},
            ("proud", "happy"),
            True,
            None,
        )
        for line in range(1, count + 1)
    }


def session_of(*runs: Measured, name: str = "tagger", count: int = 4, sha256: str = "ab" * 32) -> Session:
    return Session({"name": name, "url": "localhost:8001"}, "labelled.jsonl", sha256, rows_of(count), runs)
