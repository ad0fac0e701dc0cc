"""An OpenAI-compatible server: what it is asked, when pieces come, and every way in which it may fail."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from build.bench.chat_endpoint import KEY_VARIABLE, ChatEndpoint
from build.bench.endpoints import Answer
from build.errors import PipelineError
from one_pass import Task
from pika_tagger._labelled import BadFileError, Labelled
from tests.bench.chat_server import DONE, RIGHT, START, ChatServer, Chatter, Cut, Hang, Status, Step, answer, event, finish, piece, usage
from tests.bench.conftest import BEFORE, CHILD, PIKA, ROW
from tests.support.fake_triton import free_port


@contextmanager
def opened(chat: ChatServer, task: Task, timeout_s: float = 30.0, system: str | None = None) -> Iterator[ChatEndpoint]:
    with closing(ChatEndpoint(chat.url, task, None, system, timeout_s)) as endpoint:
        yield endpoint


def asked(chat: ChatServer, task: Task, steps: Iterable[Step], timeout_s: float = 30.0) -> Answer:
    chat.reply = lambda body: steps
    with opened(chat, task, timeout_s) as endpoint:
        return endpoint.ask(ROW, time.monotonic())


def test_the_request_is_the_one_that_systems_without_a_tagger_send(chat: ChatServer, task: Task) -> None:
    with opened(chat, task) as endpoint:
        endpoint.ask(replace(ROW, texts={**ROW.texts, "pika_last_message": BEFORE}), time.monotonic())
    (body,) = chat.asked
    messages = body.pop("messages")
    assert body == {
        "model": "phi-3",
        "max_tokens": 50,
        "temperature": 0,
        "response_format": {"type": "json_object"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * len(task.examples), "user"]
    for label in task.labels:
        assert f"{label.name}: {label.meaning}" in messages[0]["content"]
    assert "Celebrate only if" in messages[0]["content"]
    assert "letter" not in messages[0]["content"]
    assert messages[2]["content"] == '{"emotion_name": "thats_right", "celebrate": "yes"}'
    assert messages[4]["content"] == '{"emotion_name": "excited", "celebrate": "no"}'
    said = messages[-1]["content"]
    assert [text in said for text in (CHILD, PIKA, BEFORE)] == [True] * 3
    assert "{text}" not in str(messages)


def test_a_system_prompt_of_ones_own_takes_the_place_of_ours_and_of_the_examples(chat: ChatServer, task: Task) -> None:
    with opened(chat, task, system="Answer as we always did.") as endpoint:
        endpoint.ask(ROW, time.monotonic())
    assert [message["content"] for message in chat.asked[0]["messages"][:-1]] == ["Answer as we always did."]


def test_every_piece_has_its_time_and_the_answer_is_read(chat: ChatServer, task: Task) -> None:
    chat.reply = lambda body: [START, piece(RIGHT[:9]), piece(RIGHT[9:20]), piece(RIGHT[20:]), finish(), usage(18), DONE]
    with opened(chat, task) as endpoint:
        found = endpoint.ask(ROW, time.monotonic() - 5)
    assert (found.emotion_name, found.celebrate, found.failure, found.line, found.cut) == ("proud", True, None, 7, False)
    assert (len(found.pieces_ms), found.output_tokens) == (3, 18)
    assert found.first_ms == found.pieces_ms[0] >= 5000  # from when it was due, not from when it was sent
    assert all(before <= after for before, after in pairwise((*found.pieces_ms, found.latency_ms)))


def test_every_event_has_its_own_time_and_the_last_line_ends_the_answer(
    chat: ChatServer, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(1)
    monkeypatch.setattr("build.bench.chat_endpoint.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    together = b"".join([START, piece(RIGHT[:9]), piece(RIGHT[9:]), finish(), DONE])
    chat.reply = lambda body: [together, b": good bye\n\n"]
    with opened(chat, task) as endpoint:
        found = endpoint.ask(ROW, 0.0)
    # One look at the clock when the lump of events comes, and one for each event in it.
    assert (found.pieces_ms, found.latency_ms) == ((3000.0, 4000.0), 6000.0)
    assert next(clock) == 8  # the comment was read too, and is not part of the answer


def test_without_a_count_of_tokens_pieces_are_counted(chat: ChatServer, task: Task) -> None:
    assert asked(chat, task, [START, piece(RIGHT[:9]), piece(RIGHT[9:]), finish(), DONE]).output_tokens == 2


def test_a_connection_that_ends_after_the_last_line_spoils_nothing(chat: ChatServer, task: Task) -> None:
    assert asked(chat, task, [*answer(), Cut()]).usable


def test_a_server_need_not_say_done(chat: ChatServer, task: Task) -> None:
    assert asked(chat, task, answer()[:-1]).usable


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\r"])
def test_a_text_may_hold_what_other_readers_take_for_the_end_of_a_line(chat: ChatServer, task: Task, separator: str) -> None:
    found = asked(chat, task, [START, piece(f"{separator}no JSON"), finish(), DONE])
    assert (found.failure, found.usable, len(found.pieces_ms)) == (None, False, 1)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_event_may_come_in_parts_of_any_size_with_fields_that_say_nothing_to_us(chat: ChatServer, task: Task, size: int) -> None:
    whole = b": hello\n\nevent: message\nid: 3\nretry: 10\n" + b"".join(step for step in answer() if isinstance(step, bytes))
    whole = whole.replace(b"\n", b"\r\n")
    found = asked(chat, task, [whole[at : at + size] for at in range(0, len(whole), size)])
    assert (found.usable, found.output_tokens) == (True, 18)


@pytest.mark.parametrize(
    "text",
    [
        "I think she is proud.",
        '{"emotion_name": "proud"}',
        '{"emotion_name": "angry", "celebrate": "yes"}',
        '{"emotion_name": "proud", "celebrate": "perhaps"}',
        '{"emotion_name": "proud", "celebrate": "yes", "why": "so"}',
        '{"emotion_name": "sad", "emotion_name": "proud", "celebrate": "yes"}',
        '[["emotion_name", "proud"], ["celebrate", "yes"]]',
        '{"emotion_name": ["proud"], "celebrate": {}}',
        "[" * 5000,
        "",
    ],
)
def test_an_answer_that_is_not_the_json_is_whole_and_cannot_be_used(chat: ChatServer, task: Task, text: str) -> None:
    found = asked(chat, task, [START, piece(text), finish(), DONE])
    assert (found.failure, found.usable, found.emotion_name, found.celebrate) == (None, False, None, None)


def test_an_answer_that_was_cut_at_max_tokens_says_so(chat: ChatServer, task: Task) -> None:
    found = asked(chat, task, [START, piece('{"emotion'), finish("length"), usage(50), DONE])
    assert (found.failure, found.usable, found.cut, found.output_tokens) == (None, False, True, 50)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "refused"), (401, "denied"), (403, "denied"), (422, "refused"), (429, "busy"), (500, "failed"), (503, "busy")],
)
def test_a_status_is_a_reason(chat: ChatServer, task: Task, status: int, reason: str) -> None:
    found = asked(chat, task, [Status(status)])
    assert (found.failure, found.usable, found.pieces_ms) == (reason, False, ())


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {no JSON\n\n",
        b"data: \xff\xfe\n\n",
        event(["a list"]),
        event({"error": {"message": "out of memory"}}),
        event({"choices": ["no choice"]}),
        event({"choices": [{"delta": {"content": 3}}]}),
        event({"choices": [{"delta": "no delta"}]}),
        event({"choices": [], "usage": {"tokens": 3}}),
        event({"choices": 3}),
    ],
)
def test_garbage_in_the_stream_is_a_failure(chat: ChatServer, task: Task, garbage: bytes) -> None:
    assert asked(chat, task, [START, piece("{"), garbage, finish(), DONE]).failure == "failed"


@pytest.mark.parametrize("steps", [[START, piece(RIGHT[:9]), Cut()], [START, piece(RIGHT)], [START, piece(RIGHT), DONE], [Cut()]])
def test_an_answer_that_ends_too_early_is_cut(chat: ChatServer, task: Task, steps: list[Step]) -> None:
    assert asked(chat, task, steps).failure == "cut"


@pytest.mark.parametrize("end", [Hang(), Chatter()])
def test_a_server_that_stalls_is_late_and_what_came_is_kept(chat: ChatServer, task: Task, end: Step) -> None:
    found = asked(chat, task, [START, piece(RIGHT[:9]), end], timeout_s=0.3)
    assert (found.failure, found.usable, len(found.pieces_ms)) == ("late", False, 1)


def test_a_server_that_is_gone_is_unreachable(task: Task) -> None:
    with closing(ChatEndpoint(f"http://127.0.0.1:{free_port()}/v1", task, "phi-3", None, 5.0)) as endpoint:
        assert endpoint.ask(ROW, time.monotonic()).failure == "unreachable"


def test_a_failure_does_not_spoil_the_next_request(chat: ChatServer, task: Task) -> None:
    replies: list[list[Step]] = [[START, Cut()], [Status(500)], [START, b"data: {\n\n", finish(), DONE], answer()]
    chat.reply = lambda body: replies.pop(0)
    with opened(chat, task) as endpoint:
        assert [endpoint.ask(ROW, time.monotonic()).failure for _ in range(4)] == ["cut", "failed", "failed", None]


def test_a_connection_is_used_again_and_as_many_are_opened_as_requests_are_under_way(chat: ChatServer, task: Task) -> None:
    with opened(chat, task) as endpoint:
        for _ in range(3):
            endpoint.ask(ROW, time.monotonic())
        assert len(chat.connections) == 1
        together = threading.Barrier(4)

        def reply(body: dict[str, object]) -> list[Step]:
            together.wait(10)
            return answer()

        chat.reply = reply
        threads = [threading.Thread(target=endpoint.ask, args=(ROW, time.monotonic())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(chat.connections) == 4


def test_a_key_is_sent_and_told_to_nobody_else(chat: ChatServer, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sesame")
    with opened(chat, task) as endpoint:
        endpoint.ask(ROW, time.monotonic())
        assert chat.keys == ["Bearer sesame"]
        assert "sesame" not in str(endpoint.about)
    with closing(ChatEndpoint(chat.url.replace("//", "//me:sesame@"), task, None, None, 5.0)) as endpoint:
        assert endpoint.about["url"] == chat.url


def test_who_was_asked_is_told(chat: ChatServer, task: Task) -> None:
    with opened(chat, task) as endpoint:
        assert endpoint.about["name"] == "chat completions, phi-3"
        assert (endpoint.about["model"], endpoint.about["max_tokens"], endpoint.about["system_prompt"]) == ("phi-3", 50, "pika_mood/1")
        assert endpoint.splits() == {}


@pytest.mark.parametrize(
    ("models", "status", "message"),
    [
        ({"data": []}, 200, "names 0 models"),
        ({"data": [{"id": "a"}, {"id": "b"}]}, 200, "names 2 models (a, b): choose one with --model"),
        ({"data": 3}, 200, "does not answer as an OpenAI-compatible server"),
        ([], 200, "does not answer as an OpenAI-compatible server"),
        ({}, 401, f"status 401: give the key in {KEY_VARIABLE}"),
        ({}, 404, "status 404: the url ends in /v1"),
    ],
)
def test_a_server_whose_model_is_not_clear_is_refused_with_a_remedy(
    chat: ChatServer, task: Task, models: object, status: int, message: str
) -> None:
    chat.models, chat.models_status = models, status
    with pytest.raises(PipelineError, match=message.replace("(", r"\(").replace(")", r"\)")):
        ChatEndpoint(chat.url, task, None, None, 5.0)


def test_an_url_where_nobody_listens_and_one_that_is_none_are_refused(task: Task) -> None:
    with pytest.raises(PipelineError, match="does not answer"):
        ChatEndpoint("http://127.0.0.1:1/v1", task, None, None, 5.0)
    with pytest.raises(PipelineError, match="is no url"):
        ChatEndpoint("http://[::bad/v1", task, "phi-3", None, 5.0)


def test_labels_that_the_task_does_not_have_are_found_before_anything_is_asked(chat: ChatServer, task: Task) -> None:
    with opened(chat, task) as endpoint:
        endpoint.check(Labelled(Path("x"), "", (ROW,)))
        with pytest.raises(BadFileError, match="angry"):
            endpoint.check(Labelled(Path("x"), "", (replace(ROW, emotions=("angry",)),)))
