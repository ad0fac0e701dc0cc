"""The model `tagger` called without our client library: batches, bytes and plain HTTP."""

import json
import urllib.request

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException

from build.serve import Server
from build.server_options import LOOPBACK
from one_pass import Task
from tests.e2e.conftest import MODEL

pytestmark = pytest.mark.e2e


def infer(server: Server, **fields: list[bytes]) -> InferResult:
    inputs = []
    for name, rows in fields.items():
        tensor = InferInput(name, [len(rows), 1], "BYTES")
        tensor.set_data_from_numpy(np.array(rows, dtype=np.object_).reshape(-1, 1))
        inputs.append(tensor)
    with InferenceServerClient(server.url) as client:
        return client.infer("tagger", inputs)


def test_a_batch_has_the_answers_of_its_rows(server: Server) -> None:
    child, pika = [b"2+2=4", b"My fish died"], ["Chính xác!".encode(), b"Oh no, I am so sorry."]
    batch = infer(server, user_last_message=child, pika_response=pika)
    assert batch.as_numpy("emotion_scores").shape == (2, len(Task.load(MODEL.task_file).labels))
    for row in range(2):
        alone = infer(server, user_last_message=child[row : row + 1], pika_response=pika[row : row + 1])
        for name in ("emotion_name", "celebrate"):
            assert batch.as_numpy(name)[row].tolist() == alone.as_numpy(name)[0].tolist()
        np.testing.assert_allclose(batch.as_numpy("emotion_scores")[row], alone.as_numpy("emotion_scores")[0], atol=1e-4)


def test_rows_of_a_batch_may_be_asked_in_different_ways(server: Server) -> None:
    child, pika = ["Tớ thích chơi búp bê nhất!".encode()] * 3, ["Wow, búp bê màu hồng phấn thật dễ thương!".encode()] * 3
    mixed = infer(server, user_last_message=child, pika_response=pika, strategy=[b"codes", b"words", b"codes"])
    scores = mixed.as_numpy("emotion_scores")
    for row, name in enumerate([b"codes", b"words", b"codes"]):
        alone = infer(server, user_last_message=child[:1], pika_response=pika[:1], strategy=[name])
        np.testing.assert_allclose(scores[row], alone.as_numpy("emotion_scores")[0], atol=1e-4)
    assert not np.allclose(scores[0], scores[1], atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_last_message": [b"\xff\xfe"], "pika_response": [b"ok"]}, "user_last_message is not valid UTF-8"),
        ({"user_last_message": [b"a", b"b"], "pika_response": [b"ok", b""]}, r"\] row 2 of 2: pika_response is blank"),
        (
            {"user_last_message": [b"a", b"\xff", b""], "pika_response": [b"ok", b"ok", b""]},
            r"\] row 2 of 3: user_last_message is not valid UTF-8",
        ),
        ({"user_last_message": [b"a"], "pika_response": [b" "]}, r"\] pika_response is blank"),
        (
            {"user_last_message": [b"a"] * 3, "pika_response": [b"ok", b"ok", b"a b " * 97]},
            r"\] row 3 of 3: pika_response has 194 tokens; the limit is 192",
        ),
        (
            {"user_last_message": [b"a"] * 2, "pika_response": [b"ok"] * 2, "strategy": [b"codes", b"Codes"]},
            r"\] row 2 of 2: strategy is none",
        ),
        ({"user_last_message": [b"a"] * 17, "pika_response": [b"ok"] * 17}, "batch-size must be <= 16"),
        ({"user_last_message": [b"a"], "pika_response": [b"ok"], "strategy": [b"guess"]}, "give one of codes, words, json"),
        ({"user_last_message": [b"a"], "pika_response": [b"ok"], "strategy": [b""]}, "give one of codes, words, json"),
        ({"user_last_message": [b"a"], "pika_response": [b"ok"], "strategy": [b"\xff"]}, "strategy is not valid UTF-8"),
        ({"user_last_message": [b"a"], "pika_response": [b"ok"], "mood": [b"ok"]}, "unexpected inference input 'mood'"),
    ],
)
def test_bad_requests_are_invalid_arguments(server: Server, fields: dict[str, list[bytes]], message: str) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        infer(server, **fields)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_plain_http_works(server: Server) -> None:
    body = json.dumps({"user_last_message": "2+2=4", "pika_response": "Chính xác! Cậu giỏi quá!"}).encode()
    url = f"http://{LOOPBACK}:{server.ports.http_port}/v2/models/tagger/generate"
    with urllib.request.urlopen(url, body) as response:
        answer = json.load(response)
    assert answer["emotion_name"] in ("proud", "thats_right")
    assert answer["celebrate"] == "yes"
