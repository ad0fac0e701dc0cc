"""The three strategies through the real server: do they agree, does each answer, and what does a pass of `words` cost."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.serve import Server
from cpu_engine import CpuEngine
from engine_request import Request
from generation import Generation
from one_pass import Dialogue, Prompt, make_strategies
from one_pass.answer import Logits
from pika_tagger import InvalidRequestError, ServerError, Tag, TaggerClient
from tests.e2e.conftest import serving_changed

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def dialogues(evaluation: list[dict[str, str]]) -> list[Dialogue]:
    """The hand-written ones."""
    return [Dialogue(row["user_last_message"], row["pika_response"], row.get("pika_last_message")) for row in evaluation]


@pytest.fixture(scope="module")
def by_codes(client: TaggerClient, dialogues: list[Dialogue]) -> list[Tag]:
    return [client.tag(**vars(dialogue), strategy="codes") for dialogue in dialogues]


def agreement(tags: list[Tag | None], others: list[Tag]) -> float:
    """Share of dialogues in which both fields are the same."""
    same = [tag is not None and tag.json() == other.json() for tag, other in zip(tags, others, strict=True)]
    return sum(same) / len(same)


def test_words_say_what_the_codes_say(client: TaggerClient, dialogues: list[Dialogue], by_codes: list[Tag]) -> None:
    tags = [client.tag(**vars(dialogue), strategy="words") for dialogue in dialogues]
    assert agreement([*tags], by_codes) >= 0.90
    for tag in tags:
        assert sum(tag.emotion_scores.values()) == pytest.approx(1, abs=1e-5)
        assert tag.confidence == max(tag.emotion_scores.values())
    assert any(0.01 < tag.celebrate_score < 0.99 for tag in tags)


def test_json_is_written_by_the_model_and_says_what_the_codes_say(
    client: TaggerClient, dialogues: list[Dialogue], by_codes: list[Tag]
) -> None:
    tags: list[Tag | None] = []
    for dialogue in dialogues:
        try:
            tags.append(client.tag(**vars(dialogue), strategy="json"))
        except ServerError:
            tags.append(None)
    valid = [tag for tag in tags if tag is not None]
    assert len(valid) / len(tags) >= 0.95
    assert agreement(tags, by_codes) >= 0.85
    for tag in valid:
        assert sorted(tag.emotion_scores.values()) == [0.0] * 12 + [1.0]
        assert (tag.confidence, tag.celebrate_score) == (1.0, float(tag.celebrate))


def test_a_server_answers_by_codes_unless_asked_otherwise(client: TaggerClient, dialogues: list[Dialogue], by_codes: list[Tag]) -> None:
    for dialogue, tag in list(zip(dialogues, by_codes, strict=True))[:10]:
        assert client.tag(**vars(dialogue)).emotion_scores == pytest.approx(tag.emotion_scores, abs=1e-4)


def test_an_unknown_strategy_is_refused_with_those_that_exist(client: TaggerClient) -> None:
    with pytest.raises(InvalidRequestError, match="give one of codes, words, json"):
        client.tag(user_last_message="hello", pika_response="Hello, my friend!", strategy="Codes")


@pytest.fixture(scope="module")
def words_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose own choice is `words`."""
    codes, words = (f'{{ key: "strategy" value: {{ string_value: "{name}" }} }}' for name in ("codes", "words"))

    def choose_words(copy: Path) -> None:
        config = copy / "tagger" / "config.pbtxt"
        assert codes in config.read_text()
        config.write_text(config.read_text().replace(codes, words))

    with serving_changed(repository, tmp_path_factory.mktemp("words"), choose_words) as server:
        yield server


def test_the_servers_own_choice_is_a_setting_and_a_request_may_differ(words_server: Server, client: TaggerClient) -> None:
    dialogue = Dialogue("I helped my sister find her shoes.", "What a kind brother you are! I'm so proud of you.")
    codes, words = (dict(client.tag(**vars(dialogue), strategy=name).emotion_scores) for name in ("codes", "words"))
    assert codes != pytest.approx(words, abs=1e-3)
    with TaggerClient(words_server.url, timeout_s=10.0, budget_ms=math.inf, on_failure="raise") as other:
        assert other.tag(**vars(dialogue)).emotion_scores == pytest.approx(words, abs=1e-4)
        assert other.tag(**vars(dialogue), strategy="codes").emotion_scores == pytest.approx(codes, abs=1e-4)


class Recorder:
    """The CPU engine in this process, and how much of each prompt it had to compute."""

    def __init__(self, folder: Path) -> None:
        self._engine = CpuEngine(folder)
        self._sequence = self._engine.new_sequence()
        self.computed: list[int] = []

    def next_logits(self, ids: list[int]) -> Logits:
        found = self._sequence.one_pass(ids)
        self.computed.append(len(ids) - found.reused_tokens)
        return found.logits

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        generation = Generation(Request(ids, max_new_tokens, end_id), self._sequence, self._engine)
        generation.run()
        self.computed.append(len(ids) - generation.reused_tokens)
        return generation.tokens


def test_a_pass_computes_only_what_the_one_before_has_not(
    repository: Path, client: TaggerClient, prompt: Prompt, dialogues: list[Dialogue]
) -> None:
    engine = Recorder(repository / "tensorrt_llm" / "1" / "engine")
    words = make_strategies(prompt)["words"]
    for dialogue in dialogues[:20]:
        engine.computed.clear()
        ids = prompt.encode(dialogue)
        tag = words.tag(ids, engine)
        first, *later = engine.computed
        if dialogue != dialogues[0]:
            assert first <= len(ids) - len(prompt.prefix_ids) + len(prompt.answer_ids(f'{{"{prompt.task.flag_name}": "'))
        assert later
        assert max(later) <= len(prompt.answer_ids('yes", "emotion_name": "', after=f'{{"{prompt.task.flag_name}": "'))
        served = client.tag(**vars(dialogue), strategy="words")
        assert (served.emotion_name, served.celebrate) == (tag.emotion_name, tag.flag)
