"""tag_many: in order, each for itself, and never more at once than asked for."""

import threading
from typing import Any

import pytest

from pika_tagger import Dialogue, InvalidRequestError, InvalidSettingError, TaggerClient
from tests.client.fake_server import FakeServer
from tests.client.twins import Make
from tests.support.fake_triton import LABELS, Reply, Request, free_port, reply_with


def dialogues(count: int) -> list[Dialogue]:
    return [{"user_last_message": str(number), "pika_response": "b"} for number in range(count)]


def emotion_of(request: Request) -> Reply:
    return reply_with(LABELS[int(request.texts["user_last_message"]) % len(LABELS)])


class Crowd:
    """Replies only when as many requests are there at once as expected, or never will be; remembers the most."""

    def __init__(self, expected: int) -> None:
        self._lock, self._full, self._expected = threading.Lock(), threading.Event(), expected
        self.now = self.most = 0

    def reply(self, request: Request) -> Reply:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now == self._expected:
                self._full.set()
        self._full.wait(5)
        with self._lock:
            self.now -= 1
        return emotion_of(request)


def test_tags_come_in_the_order_of_the_dialogues(server: FakeServer, tagger: TaggerClient) -> None:
    server.reply = emotion_of
    tags = tagger.tag_many(dialogues(50), budget_ms=60_000)
    assert [tag.emotion_name for tag in tags] == [LABELS[number % len(LABELS)] for number in range(50)]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_are_asked_at_once_and_no_more(server: FakeServer, make: Make, concurrency: int) -> None:
    crowd = Crowd(concurrency)
    server.reply = crowd.reply
    with make(server.url, timeout_s=60) as tagger:
        assert not any(tag.fallback for tag in tagger.tag_many(dialogues(12), concurrency=concurrency))
    assert crowd.most == concurrency


def test_one_failure_is_a_fallback_in_its_place_even_for_a_client_that_raises(server: FakeServer, tagger: TaggerClient) -> None:
    def reply(request: Request) -> Reply:
        return Reply(celebrate="perhaps") if request.texts["user_last_message"] == "3" else emotion_of(request)

    server.reply = reply
    tags = tagger.tag_many(dialogues(6), budget_ms=60_000)
    assert [tag.fallback_reason for tag in tags] == [None, None, None, "failed", None, None]
    assert "neither yes nor no" in str(tags[3].error)


def test_no_server_is_as_many_fallbacks_as_dialogues(make: Make) -> None:
    with make(f"127.0.0.1:{free_port()}") as tagger:
        assert {tag.fallback_reason for tag in tagger.tag_many(dialogues(20))} == {"unreachable"}


def test_what_pika_said_before_and_the_strategy_are_sent(server: FakeServer, tagger: TaggerClient) -> None:
    said: Dialogue = {"user_last_message": "1", "pika_response": "b", "pika_last_message": "c"}
    tagger.tag_many([said], strategy="words")
    assert server.requests[-1].texts == {**said, "strategy": "words"}


def test_none_gives_none_and_a_generator_is_taken(server: FakeServer, tagger: TaggerClient) -> None:
    assert tagger.tag_many([]) == []
    assert len(tagger.tag_many(dialogue for dialogue in dialogues(3))) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_last_message": "a"},
        {"user_last_message": "a", "pika_response": None},
        {"user_last_message": "a", "pika_response": "b", "emotion": "sad"},
        {"user_last_message": "a", "pika_response": "b", "pika_last_message": 7},
        "a",
    ],
)
def test_a_dialogue_that_is_none_is_named_by_its_place_before_anything_is_sent(
    server: FakeServer, tagger: TaggerClient, wrong: Any
) -> None:
    with pytest.raises(InvalidRequestError, match="dialogue 2"):
        tagger.tag_many([*dialogues(2), wrong])
    assert server.requests == []


@pytest.mark.parametrize("concurrency", [0, -1, 2.0])
def test_a_concurrency_that_cannot_work_is_refused(tagger: TaggerClient, concurrency: Any) -> None:
    with pytest.raises(InvalidSettingError, match="concurrency"):
        tagger.tag_many(dialogues(1), concurrency=concurrency)
