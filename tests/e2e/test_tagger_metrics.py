"""What the server's metrics endpoint says about tags, and what it must never say."""

import pytest
from tritonclient.utils import InferenceServerException

from build.serve import Server
from one_pass import Dialogue, Prompt, Task
from pika_tagger import TaggerClient
from tests.e2e.conftest import MODEL
from tests.e2e.test_tagger_model import infer
from tests.support import endpoint

pytestmark = pytest.mark.e2e


def test_all_series_are_there_from_the_start(server: Server) -> None:
    found = endpoint.ours(endpoint.settled(server))
    tags = {f'pika_tags_total{{celebrate="{c}",emotion="{e}"}}' for e in Task.load(MODEL.task_file).label_names for c in ("no", "yes")}
    reasons = ("invalid_request", "engine", "invalid_answer", "internal")
    bounds = ("5", "10", "15", "20", "25", "35", "50", "75", "100", "250", "1000", "+Inf")
    assert found.keys() == {
        *tags,
        *(f'pika_tag_failures_total{{reason="{reason}"}}' for reason in reasons),
        *(f'pika_tag_duration_ms_bucket{{le="{bound}"}}' for bound in bounds),
        "pika_tag_duration_ms_sum",
        "pika_tag_duration_ms_count",
        "pika_prompt_tokens_total",
        "pika_reused_prompt_tokens_total",
        "pika_invalid_answers_total",
    }


def test_tags_are_counted_by_what_they_say_and_tokens_as_they_are(server: Server, client: TaggerClient, prompt: Prompt) -> None:
    lines = [("2+2=4", "Chính xác! Cậu giỏi quá!"), ("My fish died", "Oh no, I am so sorry.")]
    before = endpoint.settled(server)
    expected: dict[str, float] = {}
    for child, pika in lines * 6:
        tag = client.tag(user_last_message=child, pika_response=pika)
        series = f'pika_tags_total{{celebrate="{"yes" if tag.celebrate else "no"}",emotion="{tag.emotion_name}"}}'
        expected[series] = expected.get(series, 0) + 1
    grown = endpoint.growth(before, endpoint.settled(server))
    assert len(expected) == 2
    assert {name: value for name, value in grown.items() if name.startswith("pika_tags_total")} == expected
    prompts = [prompt.encode(Dialogue(*line)) for line in lines]
    assert grown["pika_prompt_tokens_total"] == 6 * sum(map(len, prompts))
    assert 12 * len(prompt.prefix_ids) <= grown["pika_reused_prompt_tokens_total"] < grown["pika_prompt_tokens_total"]
    assert grown["pika_reused_prompt_tokens_total"] % 32 == 0
    assert (grown["pika_tag_duration_ms_count"], grown['pika_tag_duration_ms_bucket{le="+Inf"}']) == (12, 12)
    assert grown["pika_tag_duration_ms_sum"] > 0
    assert not [name for name in grown if "failures" in name or "invalid" in name]


def test_every_pass_counts_its_prompt_and_every_row_its_tag(server: Server, prompt: Prompt) -> None:
    before = endpoint.settled(server)
    infer(server, user_last_message=[b"hi"] * 3, pika_response=[b"Hello!"] * 3, strategy=[b"words"] * 3)
    grown = endpoint.growth(before, endpoint.settled(server))
    assert sum(value for name, value in grown.items() if name.startswith("pika_tags_total")) == 3
    assert grown["pika_prompt_tokens_total"] > 6 * len(prompt.encode(Dialogue("hi", "Hello!")))
    assert grown["pika_tag_duration_ms_count"] == 3


def test_a_request_that_fails_counts_as_a_failure_and_none_of_its_rows_as_a_tag(server: Server) -> None:
    before = endpoint.settled(server)
    for response in (b"", b"ok " * 5000):
        with pytest.raises(InferenceServerException):
            infer(server, user_last_message=[b"a", b"b"], pika_response=[b"ok", response])
    assert endpoint.growth(before, endpoint.settled(server)) == {'pika_tag_failures_total{reason="invalid_request"}': 2}


def test_no_dialogue_is_in_the_metrics(server: Server, client: TaggerClient) -> None:
    client.tag(user_last_message="Zanzibarleguan", pika_response="Zanzibarleguan!")
    with pytest.raises(InferenceServerException):
        infer(server, user_last_message=[b"Zanzibarleguan"], pika_response=[b"Zanzibarleguan"], strategy=[b"Zanzibarleguan"])
    endpoint.settled(server)
    assert "pika_tags_total" in endpoint.text(server)
    assert "zanzibar" not in endpoint.text(server).lower()
