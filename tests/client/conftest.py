from collections.abc import Iterator
from pathlib import Path

import pytest

from pika_tagger import TaggerClient
from tests.client.evaluation import ROWS, Evaluation, obey
from tests.support.fake_triton import FakeTriton


@pytest.fixture
def server() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        yield fake


@pytest.fixture
def tagger(server: FakeTriton) -> Iterator[TaggerClient]:
    with TaggerClient(server.url, timeout_s=5.0) as client:
        yield client


@pytest.fixture
def evaluation(tmp_path: Path, server: FakeTriton, capsys: pytest.CaptureFixture[str]) -> Evaluation:
    server.reply = obey
    made = Evaluation(tmp_path, server.url, capsys)
    made.write(*ROWS)
    return made
