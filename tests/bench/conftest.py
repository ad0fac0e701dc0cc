import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build import settings
from one_pass import Task
from pika_tagger._labelled import Row
from tests.bench.chat_server import ChatServer, running

CHILD, PIKA, BEFORE = "Tớ tên là Nguyễn Văn An", "Chào An, tên cậu đẹp lắm!", "Cậu tên gì?"
ROW = Row(7, "a", {"user_last_message": CHILD, "pika_response": PIKA}, ("proud", "happy"), True, "vi")


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with running(ChatServer()) as server:
        yield server


@pytest.fixture(scope="session")
def task() -> Task:
    return Task.load(settings.model("pika-tiny").task_file)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five dialogues of which a server that says "proud, yes" gets three and two right."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"d{number}",
            "user_last_message": f"{CHILD} {number}",
            "pika_response": PIKA,
            "emotion": ["proud", "happy"] if number < 3 else "sad",
            "celebrate": "yes" if number < 2 else "no",
        }
        for number in range(5)
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
