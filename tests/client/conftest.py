import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pika_tagger import TaggerClient
from tests.client.evaluation import ROWS, Evaluation, obey
from tests.client.fake_server import FakeServer
from tests.client.twins import TWINS, Make


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture(params=list(TWINS.values()), ids=list(TWINS))
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a client of either kind that, unless told otherwise, waits for its deadline and raises."""
    twin: Make = request.param

    def patient(*arguments: Any, **settings: Any) -> TaggerClient:
        return twin(*arguments, **{"budget_ms": math.inf, "on_failure": "raise", **settings})

    return patient


@pytest.fixture
def tagger(server: FakeServer, make: Make) -> Iterator[TaggerClient]:
    with make(server.url, timeout_s=5.0) as client:
        yield client


@pytest.fixture
def evaluation(tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> Evaluation:
    server.reply = obey
    made = Evaluation(tmp_path, server.url, capsys)
    made.write(*ROWS)
    return made
