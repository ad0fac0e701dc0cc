"""Who is asked when: by one caller or many, at random, and two endpoints in turn."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from build.bench.endpoints import Answer, Endpoint
from build.bench.measure import IN_TURN, WARM_UP, Offer, in_turn, measure
from build.bench.tagger_endpoint import TaggerEndpoint
from pika_tagger import TaggerConnectionError
from pika_tagger._labelled import BadFileError, Labelled, Row, load
from pika_tagger._server_split import Split
from tests.client.fake_server import FakeServer
from tests.support.fake_triton import LABELS, Reply, free_port, reply_with


class Asked:
    """An endpoint that writes down who was asked about what."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self.name, self.log = name, log

    @property
    def about(self) -> dict[str, Any]:
        return {"name": self.name}

    def check(self, labelled: Labelled) -> None:
        pass

    def ask(self, row: Row, due_s: float) -> Answer:
        self.log.append((self.name, row.line))
        return Answer(1.0, None, row.line, due_s, emotion_name="proud", celebrate=True)

    def splits(self) -> dict[str, Split]:
        phases = dict.fromkeys(("queue", "compute_input", "compute_infer", "compute_output"), 0)
        return {"model": Split(len(self.log), phases)}

    def close(self) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def test_every_run_goes_through_the_file_after_one_warm_up(data: Path) -> None:
    log: list[tuple[str, int]] = []
    endpoint: Endpoint = Asked("a", log)
    runs = list(measure(endpoint, load(data), [Offer(7, callers=1), Offer(6, callers=3), Offer(8, rate_hz=5000.0)]))
    assert [(run.name, len(run.answers)) for run in runs] == [("1 at a time", 7), ("3 at a time", 6), ("5000/s", 8)]
    assert len(log) == WARM_UP + 7 + 6 + 8
    assert [answer.line for answer in runs[0].answers] == [1, 2, 3, 4, 5, 1, 2]
    assert [run.split["model"]["requests"] for run in runs] == [7, 6, 8]


def test_two_endpoints_take_turns_and_are_never_asked_about_the_same_dialogue_in_a_row(data: Path) -> None:
    log: list[tuple[str, int]] = []
    runs = in_turn([Asked("a", log), Asked("b", log)], load(data), repeats=2)
    asked = log[2 * WARM_UP :]
    assert Counter(asked) == {(name, line): 2 for name in "ab" for line in range(1, 6)}
    pairs = list(zip(asked[::2], asked[1::2], strict=True))
    assert [{first[0], second[0]} for first, second in pairs] == [{"a", "b"}] * 10
    assert Counter(first[0] for first, _ in pairs) == {"a": 5, "b": 5}
    assert all(first[1] != second[1] for first, second in pairwise(asked) if first[0] != second[0])
    assert [(run.name, len(run.answers)) for run in runs] == [(IN_TURN, 10)] * 2
    assert [run.load.seconds for run in runs] == pytest.approx([0.01, 0.01])  # the others' time is not in it


def test_the_tagger_is_asked_by_the_strategy_that_was_named(server: FakeServer, data: Path) -> None:
    server.reply = lambda request: reply_with("happy", "yes") if request.texts.get("strategy") == "json" else Reply()
    row = load(data).rows[0]
    with closing(TaggerEndpoint(server.url, "json", 5.0)) as by_json, closing(TaggerEndpoint(server.url, None, 5.0)) as as_set:
        text, token = by_json.ask(row, 0.0), as_set.ask(row, 0.0)
        assert (by_json.about["name"], as_set.about["name"]) == ("tagger, strategy json", "tagger, strategy codes")
        assert (by_json.about["kind"], by_json.about["url"], by_json.about["triton_version"]) == ("tagger", server.url, "2.51.0")
    assert (text.emotion_name, text.celebrate, text.output_tokens, text.usable) == ("happy", True, None, True)
    assert (token.emotion_name, token.output_tokens, token.line, token.pieces_ms) == ("proud", 1, 1, ())


def test_a_request_that_the_tagger_fails_has_a_reason_and_no_answer(server: FakeServer, data: Path) -> None:
    with closing(TaggerEndpoint(server.url, "codes", 5.0)) as endpoint:
        server.fail_with("INTERNAL", "broken")
        found = endpoint.ask(load(data).rows[0], 0.0)
    assert (found.failure, found.usable, found.emotion_name) == ("failed", False, None)


def test_more_requests_than_a_robot_has_reach_the_server(server: FakeServer, data: Path) -> None:
    with closing(TaggerEndpoint(server.url, "codes", 60.0)) as endpoint:
        (run,) = measure(endpoint, load(data), [Offer(300, rate_hz=float("inf"))])
    assert run.failures == {}
    assert len(run.complete) == 300


def test_labels_that_the_server_does_not_have_are_found_first(server: FakeServer, data: Path) -> None:
    server.labels = tuple("glad" if label == "happy" else label for label in LABELS)
    with closing(TaggerEndpoint(server.url, "codes", 5.0)) as endpoint, pytest.raises(BadFileError, match="happy"):
        endpoint.check(load(data))


def test_a_tagger_that_is_not_there_is_an_error(data: Path) -> None:
    with pytest.raises(TaggerConnectionError):
        TaggerEndpoint(f"127.0.0.1:{free_port()}", "codes", 0.5)
