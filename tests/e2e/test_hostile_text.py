"""Hostile text through the real server, as bytes in raw gRPC messages: each request gets its own answer, and nobody else's.

What the answer to a request must be follows from the limits in docs/tagger.md. PIKA_HOSTILE_REQUESTS says how many are sent; 100000 took
ten minutes on two cores that others used, too.
"""

import os
import random
import re
import struct
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from build.ports import free_ports
from build.serve import Server, running
from one_pass import STRATEGIES, Limits, Prompt
from tests.support import hostile

pytestmark = pytest.mark.e2e

N_REQUESTS = int(os.environ.get("PIKA_HOSTILE_REQUESTS", "600"))
AT_ONCE = 4
MOST_GROWTH_BYTES = 20 << 20
"""How far the least that a process takes towards the end may be above the most that it took in the first half. What the tokenizer keeps of
words that it has seen goes up and down by some 15 MiB, and first fills up in some 40 000 requests to one process: 200 000 to four taggers
left each of them at 74 to 81 MiB, 70 to 78 at half of that."""
SECRET = b"zanzibar"
"""Stands in fields of the flood, and must stand nowhere else."""
SAME = 1e-4
"""How far apart two scores of the same dialogue may be: the engine computes with more or less of it in its cache."""
JSON_ANSWER = "the model did not answer with the JSON asked for"

Fields = dict[str, bytes]

CANARY: Fields = {"user_last_message": "Dạ, con voi ăn cỏ ạ.".encode(), "pika_response": "Đúng rồi, con giỏi lắm!".encode()}


@dataclass(frozen=True)
class Answer:
    """What came back: outputs by name, or a refusal."""

    outputs: dict[str, npt.NDArray[Any]]
    status: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""

    def same(self, other: "Answer") -> bool:
        if (self.status, self.message, self.outputs.keys()) != (other.status, other.message, other.outputs.keys()):
            return False
        scores = [
            np.concatenate([a.outputs[name].ravel() for name in ("emotion_scores", "celebrate_score")]) for a in (self, other) if a.outputs
        ]
        return not scores or bool(np.abs(scores[0] - scores[1]).max() <= SAME)


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def ask(stub: service_pb2_grpc.GRPCInferenceServiceStub, fields: Fields, request_id: str = "") -> Answer:
    request = service_pb2.ModelInferRequest(model_name="tagger", id=request_id)
    for name, value in fields.items():
        request.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
        request.raw_input_contents.append(struct.pack("<I", len(value)) + value)
    try:
        response = stub.ModelInfer(request, timeout=60.0)
    except grpc.RpcError as error:
        return Answer({}, error.code(), error.details())
    assert response.id == request_id
    outputs = {}
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        outputs[tensor.name] = np.array([raw[4:]]) if tensor.datatype == "BYTES" else np.frombuffer(raw, dtype=np.float32)
        assert list(tensor.shape) == [1, outputs[tensor.name].size]
    return Answer(outputs)


def refusal(prompt: Prompt, fields: Fields) -> str:
    """How the message of the refusal must begin that the limits ask for, or nothing: the field that is checked first is named."""
    texts = {}
    for name in ("user_last_message", "pika_response", "pika_last_message", "strategy"):
        if name in fields:
            try:
                texts[name] = fields[name].decode()
            except UnicodeDecodeError:
                return f"{name} is not valid UTF-8"
    if texts.get("strategy", "codes") not in STRATEGIES:
        return "strategy is none that this tagger has"
    if not texts["pika_response"].strip():
        return "pika_response is blank"
    for name in ("pika_last_message", "user_last_message", "pika_response"):
        if len(fields.get(name, b"")) > Limits.max_field_bytes:
            return f"{name} has {len(fields[name])} bytes; the limit is"
        if name in texts and (n_tokens := len(prompt.codec.encode_dialogue(texts[name]))) > Limits.max_field_tokens:
            return f"{name} has {n_tokens} tokens; the limit is"
    return ""


def check(prompt: Prompt, fields: Fields, answer: Answer) -> None:
    """The answer has the form that the request must get."""
    expected = refusal(prompt, fields)
    if expected:
        assert answer.status == grpc.StatusCode.INVALID_ARGUMENT
        assert answer.message.startswith(expected)
        return
    if fields.get("strategy") == b"json" and answer.status == grpc.StatusCode.INTERNAL:
        assert answer.message.startswith(JSON_ANSWER)
        return
    assert answer.status == grpc.StatusCode.OK, answer.message
    scores, (celebrate_score,) = answer.outputs["emotion_scores"], answer.outputs["celebrate_score"]
    labels = prompt.task.label_names
    assert scores.shape == (len(labels),)
    assert abs(scores.sum() - 1) < SAME
    assert 0 <= min(scores.min(), celebrate_score) <= celebrate_score <= 1 + SAME
    assert answer.outputs["emotion_name"] == labels[int(scores.argmax())].encode()
    if fields.get("strategy") != b"json":
        assert answer.outputs["celebrate"] == (b"yes" if celebrate_score >= prompt.task.flag_threshold else b"no")


OPTIONAL = {"pika_last_message": hostile.FIELDS, "strategy": st.sampled_from([name.encode() for name in STRATEGIES]) | hostile.FIELDS}
REQUESTS = st.fixed_dictionaries({"user_last_message": hostile.FIELDS, "pika_response": hostile.FIELDS}, optional=OPTIONAL)


@given(fields=REQUESTS, before=REQUESTS)
@example(fields={"user_last_message": b"", "pika_response": b""}, before=CANARY)
@example(fields={"user_last_message": b"\x00" * 1_000_000, "pika_response": b"\xf0\x9f\x98\x80" * 250_000}, before=CANARY)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_an_answer_is_of_its_own_request(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, prompt: Prompt, fields: Fields, before: Fields
) -> None:
    first = ask(stub, fields)
    check(prompt, fields, first)
    check(prompt, before, ask(stub, before))
    assert ask(stub, fields).same(first)


def made(source: random.Random) -> Fields:
    """A request of the flood."""
    fields = {"user_last_message": hostile.field(source), "pika_response": hostile.field(source) + SECRET}
    if source.random() < 0.4:
        fields["pika_last_message"] = SECRET + hostile.field(source)
    if source.random() < 0.2:
        fields["strategy"] = source.choice([*(name.encode() for name in STRATEGIES), hostile.field(source)])
    return fields


def processes(server: Server) -> dict[str, int]:
    """Resident bytes of the server and its stubs, by name and pid."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.getsid(int(folder.name)) == server.process.pid:
                    resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                    found[f"{(folder / 'comm').read_text().strip()} {folder.name}"] = resident
            except (OSError, ProcessLookupError):
                continue  # it has ended
    return found


def answered(server: Server) -> int:
    """How many requests the tagger has answered, say the metrics; a Python model's errors are most often taken for success."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics_port}/metrics") as response:
        found = re.findall(r'^nv_inference_request_(?:success|failure)\{model="tagger",.*\} (\d+)$', response.read().decode(), re.MULTILINE)
    assert found
    return sum(map(int, found))


def test_a_flood_leaves_no_trace(repository: Path, prompt: Prompt, tmp_path: Path) -> None:
    """As many answers as requests, each of the right form; a dialogue between is tagged as ever; nothing grows, nothing is logged."""
    log = tmp_path / "serve.log"
    with running(repository, free_ports(), log) as server, grpc.insecure_channel(server.url) as channel:
        server.wait_until_ready()
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        canary = ask(stub, CANARY)
        check(prompt, CANARY, canary)
        before, logged_bytes = answered(server), log.stat().st_size
        seen: Counter[grpc.StatusCode] = Counter()
        resident: list[dict[str, int]] = []

        def one(number: int) -> grpc.StatusCode:
            if number % 50 == 0:
                assert ask(stub, CANARY).same(canary)
                return canary.status
            fields = made(random.Random(number))
            answer = ask(stub, fields, str(number))
            check(prompt, fields, answer)
            return answer.status

        with ThreadPoolExecutor(AT_ONCE) as pool:
            pending: deque[Any] = deque()
            for number in range(N_REQUESTS):
                pending.append(pool.submit(one, number))
                if len(pending) == 4 * AT_ONCE:
                    seen[pending.popleft().result()] += 1
                if number % (N_REQUESTS // 10) == 0:
                    resident.append(processes(server))
            seen.update(future.result() for future in pending)

        assert ask(stub, CANARY).same(canary)
        assert answered(server) - before == seen.total() + 1 == N_REQUESTS + 1
        assert min(seen[grpc.StatusCode.OK], seen[grpc.StatusCode.INVALID_ARGUMENT]) > N_REQUESTS // 10  # both were tried
        resident.append(processes(server))
        print(f"{N_REQUESTS} requests: {dict(seen)}")
        for name in resident[0]:
            print(f"{name}: MiB at every tenth", *(f"{sizes.get(name, 0) / 2**20:.1f}" for sizes in resident))
        assert resident[-1].keys() == resident[0].keys()  # no process died, none was added
        for name in resident[0]:
            first_half, end = ([sizes[name] for sizes in some] for some in (resident[:6], resident[-3:]))
            assert min(end) - max(first_half) < MOST_GROWTH_BYTES
        text = log.read_bytes()
    assert SECRET not in text
    assert len(text) == logged_bytes
