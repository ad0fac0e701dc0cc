"""More requests than the tagger can answer: some are refused at once, all others answered, each by itself."""

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from build import settings
from build.repository import TAGGER_MAX_BATCH_SIZE, tagger_instances
from build.serve import Server
from pika_tagger import TaggerClient
from tests.support import endpoint
from tests.support.engine_client import Arrays, Pending

pytestmark = pytest.mark.e2e

TARGET = settings.target("cpu")
IN_HAND = tagger_instances(TARGET)


@pytest.fixture
def triton(server: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.url) as opened:
        yield opened


def texts(child: list[bytes], pika: list[bytes]) -> Arrays:
    return {name: np.array(rows, np.object_).reshape(-1, 1) for name, rows in (("user_last_message", child), ("pika_response", pika))}


def test_what_does_not_fit_is_refused_and_the_rest_answered(triton: InferenceServerClient, client: TaggerClient) -> None:
    long = texts([b"2+2=4"] * TAGGER_MAX_BATCH_SIZE, ["Chính xác!".encode()] * TAGGER_MAX_BATCH_SIZE)
    pending = [Pending(triton, long, "", model="tagger") for _ in range(5 * (TARGET.tagger_queue_size + IN_HAND))]
    answered, refused = [], []
    for one in pending:
        try:
            answered.append(one.outputs()["celebrate"].tolist())
        except InferenceServerException as error:
            refused.append(f"{error.status()} {error.message()}")
    assert answered == [[[b"yes"]] * TAGGER_MAX_BATCH_SIZE] * len(answered)
    assert TARGET.tagger_queue_size + IN_HAND <= len(answered) < len(pending) / 2
    assert set(refused) == {"StatusCode.UNAVAILABLE [request id: <id_unknown>] Exceeds maximum queue size"}
    assert client.tag(user_last_message="2+2=4", pika_response="Chính xác!").celebrate, "the queue is empty again"


def test_requests_that_wait_together_are_not_joined_and_a_bad_one_fails_alone(
    server: Server, triton: InferenceServerClient, client: TaggerClient
) -> None:
    lines = [
        (b"2+2=4", "Chính xác!".encode()),
        (b"My fish died", b""),
        (b"My fish died", b"Oh no, I am so sorry."),
    ] * 2  # no more than may wait
    before = endpoint.settled(server)
    pending = [Pending(triton, texts([child], [pika]), f"{i}", model="tagger") for i, (child, pika) in enumerate(lines)]
    found: list[object] = []
    for one in pending:
        try:
            found.append(one.outputs()["celebrate"].tolist())
        except InferenceServerException as error:
            found.append(str(error.status()))
    assert found == [[[b"yes"]], "StatusCode.INVALID_ARGUMENT", [[b"no"]]] * 2
    after = endpoint.settled(server)
    executions = 'nv_inference_exec_count{model="tagger",version="1"}'
    assert after[executions] - before[executions] == len(lines)
