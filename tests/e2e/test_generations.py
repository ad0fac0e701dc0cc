"""Many generations at once through the real server, tags among them; stopping, cancelling, and more than fit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from build import settings
from build.serve import Server
from one_pass import Dialogue, Prompt
from pika_tagger import TaggerClient
from tests.support.engine_client import STOP, Arrays, Pending, generate, infer, tensors, to_generate

pytestmark = pytest.mark.e2e

YES = np.array([[True]])
TARGET = settings.target("cpu")


@pytest.fixture
def triton(server: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.url) as opened:
        yield opened


def span_ns(outputs: Arrays) -> tuple[int, int]:
    """First and last token."""
    return int(outputs["first_token_time_ns"][0, 0]), int(outputs["last_token_time_ns"][0, 0])


def prompts(n: int) -> list[list[int]]:
    return [list(range(100 * i, 100 * i + 40)) for i in range(1, n + 1)]


def test_generations_progress_together_and_say_what_they_say_alone(server: Server, triton: InferenceServerClient) -> None:
    alone = [generate(server, ids, 100)["output_ids"].tolist() for ids in prompts(TARGET.generation_slots)]
    pending = [Pending(triton, to_generate(ids, 100, return_perf_metrics=YES), f"{i}") for i, ids in enumerate(prompts(len(alone)))]
    together = [one.outputs() for one in pending]
    assert [outputs["output_ids"].tolist() for outputs in together] == alone
    spans = [span_ns(outputs) for outputs in together]
    assert max(first for first, _ in spans) < min(last for _, last in spans), "each had a token before any had its last"


def test_tags_are_answered_while_a_long_answer_is_written(
    server: Server, triton: InferenceServerClient, client: TaggerClient, prompt: Prompt
) -> None:
    question = {"user_last_message": "2+2=4", "pika_response": "Chính xác! Cậu giỏi quá!"}
    quiet = client.tag(**question)
    ids = prompt.encode(Dialogue("2+2=4", "Chính xác! Cậu giỏi quá!"))
    flags = {"return_generation_logits": YES, "return_perf_metrics": YES}
    long = Pending(triton, to_generate(prompts(1)[0], 400, return_perf_metrics=YES), "long")
    tags, passes = [], []
    for _ in range(10):
        tags.append(client.tag(**question))
        passes.append(span_ns(generate(server, ids, 1, **flags))[0])
    assert not long.done()
    first, last = span_ns(long.outputs())
    for tag in tags:
        assert tag.emotion_scores == pytest.approx(quiet.emotion_scores, abs=1e-4)
    assert all(at < last for at in passes)
    assert sum(first < at for at in passes) >= 5


def test_the_prefix_of_tags_survives_all_generations(server: Server, triton: InferenceServerClient, prompt: Prompt) -> None:
    flags = {"return_generation_logits": YES, "return_perf_metrics": YES}
    generate(server, prompt.encode(Dialogue("hi", "Hello!")), 1, **flags)
    for one in [Pending(triton, to_generate(ids, 20), f"{i}") for i, ids in enumerate(prompts(9))]:
        one.outputs()
    out = generate(server, prompt.encode(Dialogue("I like trains", "Trains are fun!")), 1, **flags)
    assert out["kv_cache_reused_blocks"][0, 0] >= len(prompt.prefix_ids) // TARGET.tokens_per_block


def test_a_stop_request_ends_the_generation_of_its_id(server: Server, triton: InferenceServerClient) -> None:
    ids = prompts(1)[0]
    stopped = Pending(triton, to_generate(ids, 900), "to stop")
    other = Pending(triton, to_generate(prompts(2)[1], 60), "other")
    # The two run side by side, so that the first is under way once the second is done.
    assert other.outputs()["sequence_length"].tolist() == [[100]]
    assert Pending(triton, STOP, "to stop").outputs() == {}
    assert len(ids) < stopped.outputs()["sequence_length"][0, 0] < 940


def test_stopping_what_is_unknown_is_no_error_but_without_an_id_it_is(triton: InferenceServerClient) -> None:
    assert Pending(triton, STOP, "nobody").outputs() == {}
    with pytest.raises(InferenceServerException, match="stop needs the request id") as caught:
        Pending(triton, STOP, "").outputs()
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_what_is_cancelled_makes_room(server: Server, triton: InferenceServerClient) -> None:
    first, last = span_ns(generate(server, prompts(1)[0], 900, return_perf_metrics=YES))
    left = [Pending(triton, to_generate(ids, 900), "") for ids in prompts(TARGET.generation_slots)]
    waiting = Pending(triton, to_generate(prompts(5)[4], 3, return_perf_metrics=YES), "")
    # Requests reach the engine in order: once a tag is back, those before it are there. Before, Triton itself would cancel them.
    Pending(triton, to_generate([5], 1, return_generation_logits=YES), "").outputs()
    for one in left:
        one.call.cancel()
    metrics = waiting.outputs()
    waited = metrics["first_scheduled_time_ns"][0, 0] - metrics["arrival_time_ns"][0, 0]
    assert waited < last - first, "it would have waited several times as long for all of them to finish"
    for one in left:
        with pytest.raises(InferenceServerException) as caught:
            one.outputs()
        assert caught.value.status() == "StatusCode.CANCELLED"


def test_more_than_fit_are_refused_at_once_and_the_others_served(triton: InferenceServerClient, client: TaggerClient) -> None:
    room = TARGET.generation_slots + TARGET.max_queue_size
    pending = [Pending(triton, to_generate(prompts(1)[0], 60), f"{i}") for i in range(room + 6)]
    assert client.tag(user_last_message="hi", pika_response="Hello!").emotion_name
    served, refused = [], []
    for one in pending:
        try:
            served.append(int(one.outputs()["sequence_length"][0, 0]))
        except InferenceServerException as error:
            refused.append(f"{error.status()} {error.message()}")
    assert served == [100] * len(served)
    assert room <= len(served) < len(pending)
    words = (
        f"{TARGET.generation_slots} generations are under way and {TARGET.max_queue_size} wait, which is max_queue_size: try again later"
    )
    assert set(refused) == {f"StatusCode.UNAVAILABLE {words}"}


@pytest.mark.parametrize("request_id", ["1", "2147483647", "a b/ü", ""])
@pytest.mark.parametrize("model", ["tensorrt_llm", "ensemble"])
def test_ids_come_back_with_their_answers(triton: InferenceServerClient, model: str, request_id: str) -> None:
    text = {"text_input": np.array([["hi"]], np.object_), "max_tokens": np.array([[2]], np.int32)}
    arrays = to_generate([5, 6], 2) if model == "tensorrt_llm" else text
    assert triton.infer(model, tensors(arrays), request_id=request_id).get_response().id == request_id


def test_memory_does_not_grow_with_the_number_of_generations(server: Server, repository: Path) -> None:
    def resident_kib() -> int:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if str(repository / "tensorrt_llm") in (entry / "cmdline").read_text():
                        found.append(int((entry / "statm").read_text().split()[1]) * 4)
                except OSError:
                    continue
        (engine,) = found
        return engine

    def load() -> None:
        for ids in prompts(30):
            infer(server, None, **to_generate(ids, 30, return_generation_logits=YES))

    load()
    load()
    before = resident_kib()
    load()
    load()
    assert resident_kib() - before < 24 * 1024, "60 more KV caches would be 720 MiB"
