"""Every failure becomes one of our errors, says what to do, and keeps the dialogue to itself."""

import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from pika_tagger import (
    AccessDeniedError,
    InvalidRequestError,
    ServerBusyError,
    ServerError,
    TaggerClient,
    TaggerConnectionError,
    TaggerError,
    TaggerTimeoutError,
)
from tests.client.twins import Make
from tests.support.fake_triton import FakeTriton, Reply, add_output, float_tensor, free_port, string_tensor

CHILD = "Tớ tên là Nguyễn Văn An, nhà ở phố Huế"
PIKA = "Chào An, phố Huế đẹp lắm!"
BEFORE = "Cậu tên là gì, nhà cậu ở đâu?"


def tag(tagger: TaggerClient) -> None:
    tagger.tag(user_last_message=CHILD, pika_response=PIKA, pika_last_message=BEFORE)


@pytest.mark.parametrize(
    ("status", "details", "error", "advice"),
    [
        ("INVALID_ARGUMENT", "pika_response: must not be blank", InvalidRequestError, "must not be blank.*correct the field"),
        ("UNAVAILABLE", "Exceeds maximum queue size", ServerBusyError, "send it again a little later"),
        ("UNAVAILABLE", "Request timeout expired", ServerBusyError, "send it again a little later"),
        ("UNAVAILABLE", "Server is stopping", TaggerConnectionError, "Server is stopping.*start the server"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", TaggerTimeoutError, "check the server's load"),
        ("NOT_FOUND", "Request for unknown model: 'tagger' is not found", ServerError, "check model_name"),
        (
            "NOT_FOUND",
            "Request for unknown model: 'tagger' has no available versions",
            TaggerConnectionError,
            "not ready.*start the server",
        ),
        ("INTERNAL", "Model tensorrt_llm - Error when running inference: Server not ready", TaggerConnectionError, "start the server"),
        ("UNIMPLEMENTED", "", ServerError, "check the url"),
        ("INTERNAL", "Stub process 'tagger_0_0' is not healthy.", ServerError, "is not healthy.*see the server's log"),
        ("RESOURCE_EXHAUSTED", "too many streams", ServerError, "see the server's log"),
        ("CANCELLED", "", TaggerConnectionError, "start the server"),
        ("UNKNOWN", "bad things", ServerError, "see the server's log"),
        ("PERMISSION_DENIED", "", AccessDeniedError, "as metadata"),
        ("UNAUTHENTICATED", "no token", AccessDeniedError, "no token.*as metadata"),
        (
            "UNAVAILABLE",
            "This protocol is restricted, expecting header 'triton-grpc-protocol-admin-key'",
            AccessDeniedError,
            '"triton-grpc-protocol-KEY": "VALUE"',
        ),
    ],
)
def test_each_status_has_its_error_with_advice(
    server: FakeTriton, tagger: TaggerClient, status: str, details: str, error: type[TaggerError], advice: str
) -> None:
    server.fail_with(status, details)
    with pytest.raises(TaggerError, match=advice) as caught:
        tag(tagger)
    assert type(caught.value) is error
    assert caught.value.status == status


def test_a_call_ends_with_its_deadline(make: Make, server: FakeTriton) -> None:
    with make(server.url, timeout_s=0.5) as tagger:
        assert tagger.server_info().labels
        server.delay_s = 60
        with pytest.raises(TaggerTimeoutError, match=r"no answer from model 'tagger' at .* within 0\.5 s"):
            tag(tagger)


def test_a_client_is_of_use_after_a_timeout(make: Make, server: FakeTriton) -> None:
    with make(server.url, timeout_s=0.5) as tagger:
        assert tagger.server_info().labels
        server.delay_s = 60
        with pytest.raises(TaggerTimeoutError):
            tag(tagger)
        server.delay_s = 0
        assert tagger.wait_until_ready(20).emotion_name == "proud"


def test_nobody_listening_is_a_connection_error(make: Make) -> None:
    with make(f"127.0.0.1:{free_port()}") as tagger, pytest.raises(TaggerConnectionError, match="start the server") as caught:
        tag(tagger)
    assert caught.value.status == "UNAVAILABLE"


def test_a_model_that_is_not_there_is_named(make: Make, server: FakeTriton) -> None:
    with (
        make(server.url, model_name="tager") as tagger,
        pytest.raises(ServerError, match=r"no model 'tager' at .* check model_name"),
    ):
        tag(tagger)


def test_a_text_beyond_the_message_limit_is_refused_with_the_limit(server: FakeTriton, tagger: TaggerClient) -> None:
    with pytest.raises(InvalidRequestError, match="larger than 1048576 bytes"):
        tagger.tag(user_last_message="x" * (1 << 21), pika_response=PIKA)


@pytest.mark.parametrize("labels", [None, (), ("happy", "happy")])
def test_a_model_without_usable_labels_is_no_tagger(server: FakeTriton, tagger: TaggerClient, labels: tuple[str, ...] | None) -> None:
    server.labels = labels
    with pytest.raises(ServerError, match="no usable parameter 'labels'"):
        tag(tagger)


def without(name: str) -> Callable[[Any], None]:
    def spoil(response: Any) -> None:
        index = [output.name for output in response.outputs].index(name)
        del response.outputs[index], response.raw_output_contents[index]

    return spoil


def with_other(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Callable[[Any], None]:
    def spoil(response: Any) -> None:
        without(name)(response)
        add_output(response, name, datatype, shape, raw)

    return spoil


GARBAGE = {
    "no emotion": without("emotion_name"),
    "no flag": without("celebrate"),
    "no scores": without("emotion_scores"),
    "no celebrate score": without("celebrate_score"),
    "no outputs at all": lambda response: response.Clear(),
    "no data": lambda response: response.ClearField("raw_output_contents"),
    "a flat string": with_other("emotion_name", "BYTES", (1,), string_tensor(b"proud")),
    "two strings": with_other("emotion_name", "BYTES", (1, 2), string_tensor(b"proud") * 2),
    "a number for a string": with_other("emotion_name", "FP32", (1, 1), float_tensor(1)),
    "a string cut short": with_other("emotion_name", "BYTES", (1, 1), b"\x05\x00"),
    "a string longer than its data": with_other("emotion_name", "BYTES", (1, 1), b"\xff\x00\x00\x00proud"),
    "not UTF-8": with_other("emotion_name", "BYTES", (1, 1), string_tensor(b"\xff\xfe")),
    "an unknown emotion": with_other("emotion_name", "BYTES", (1, 1), string_tensor(CHILD.encode())),
    "an unknown flag": with_other("celebrate", "BYTES", (1, 1), string_tensor(CHILD.encode())),
    "an empty flag": with_other("celebrate", "BYTES", (1, 1), string_tensor(b"")),
    "too few scores": with_other("emotion_scores", "FP32", (1, 12), float_tensor(*[0.05] * 12)),
    "flat scores": with_other("emotion_scores", "FP32", (13,), float_tensor(*[0.05] * 13)),
    "scores of another type": with_other("emotion_scores", "INT32", (1, 13), bytes(52)),
    "scores of an unknown type": with_other("emotion_scores", "FP7", (1, 13), bytes(52)),
    "fewer data than the shape says": with_other("emotion_scores", "FP32", (1, 13), bytes(48)),
    "half a float": with_other("emotion_scores", "FP32", (1, 13), bytes(51)),
    "NaN": with_other("celebrate_score", "FP32", (1, 1), float_tensor(float("nan"))),
    "a negative probability": with_other("celebrate_score", "FP32", (1, 1), float_tensor(-0.5)),
    "a probability above 1": with_other("emotion_scores", "FP32", (1, 13), float_tensor(*[7.0] * 13)),
    "two celebrate scores": with_other("celebrate_score", "FP32", (1, 2), float_tensor(0.5, 0.5)),
}


@pytest.mark.parametrize("spoil", GARBAGE.values(), ids=GARBAGE.keys())
def test_an_answer_that_is_none_is_a_server_error(server: FakeTriton, tagger: TaggerClient, spoil: Callable[[Any], None]) -> None:
    server.spoil = spoil
    with pytest.raises(ServerError, match=r"what a tagger does not send .* check that client and server") as caught:
        tag(tagger)
    assert_private(caught.value)


def test_probabilities_may_exceed_1_by_rounding(server: FakeTriton, tagger: TaggerClient) -> None:
    server.reply = lambda request: Reply(celebrate_score=1.0000002)
    assert tagger.health().celebrate_score == pytest.approx(1)


QUOTES = {
    "as it was said": lambda text: f"cannot tokenize {text}!",
    "in quotes": lambda text: f"cannot tokenize {text!r}",
    "escaped": lambda text: f"cannot tokenize {text!a}",
    "as JSON": lambda text: f"cannot tokenize {json.dumps(text)}",
    "as bytes": lambda text: f"cannot tokenize {text.encode()!r}",
    "in capitals": lambda text: f"cannot tokenize {text.upper()}",
    "broken into lines": lambda text: "cannot tokenize " + text.replace(" ", "\n  "),
    "in part": lambda text: f"cannot tokenize ...{text[3:20]}...",
}


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "INTERNAL", "UNAVAILABLE", "NOT_FOUND", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"])
@pytest.mark.parametrize("text", [CHILD, PIKA, BEFORE], ids=["child", "pika", "before"])
@pytest.mark.parametrize("quote", QUOTES.values(), ids=QUOTES.keys())
def test_a_server_that_quotes_the_dialogue_is_not_repeated(
    server: FakeTriton,
    tagger: TaggerClient,
    caplog: pytest.LogCaptureFixture,
    status: str,
    text: str,
    quote: Callable[[str], str],
) -> None:
    server.fail_with(status, quote(text))
    with caplog.at_level(logging.DEBUG), pytest.raises(TaggerError, match="is not repeated here") as caught:
        tag(tagger)
    assert_private(caught.value)
    shown = caplog.text.casefold()
    assert not any(part.casefold() in shown for said in (CHILD, PIKA, BEFORE) for part in (said[:12], ascii(said)[1:13]))


@pytest.mark.parametrize("quote", [str, ascii, json.dumps, lambda text: repr(text.encode())])
def test_every_spelling_of_a_text_full_of_accents_is_recognized(
    server: FakeTriton, tagger: TaggerClient, quote: Callable[[str], str]
) -> None:
    server.fail_with("INTERNAL", f"cannot tag {quote('é à è ù é à')}")
    with pytest.raises(ServerError, match="is not repeated here"):
        tagger.tag(user_last_message="é à è ù é à", pika_response=PIKA)


def test_a_long_message_of_the_server_is_cut_and_put_on_one_line(server: FakeTriton, tagger: TaggerClient) -> None:
    server.fail_with("INTERNAL", "Traceback:\n" + "  File model.py\n" * 100)
    with pytest.raises(ServerError) as caught:
        tag(tagger)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_word_too_common_to_be_private_does_not_hide_the_reason(server: FakeTriton, tagger: TaggerClient) -> None:
    server.fail_with("INVALID_ARGUMENT", "pika_response: must not be blank")
    with pytest.raises(InvalidRequestError, match="must not be blank"):
        tagger.tag(user_last_message="no", pika_response=" ")


def test_a_refused_strategy_does_not_hide_the_reason(server: FakeTriton, tagger: TaggerClient) -> None:
    server.fail_with("INVALID_ARGUMENT", "strategy is none that this tagger has: give one of codes, words, json")
    with pytest.raises(InvalidRequestError, match="give one of codes, words, json"):
        tagger.tag(user_last_message=CHILD, pika_response=PIKA, strategy="codes, words")


def assert_private(error: TaggerError) -> None:
    """Nothing that a log may show of `error` holds a word of the dialogue, in any spelling."""
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + repr(error.__context__) + repr(error.__cause__)
    for text in (CHILD, PIKA, BEFORE):
        for form in (text, ascii(text)[1:-1], repr(text.encode())[2:-1]):
            assert form[3:14] not in shown
