"""What callers of `tagger` see when the engine fails or talks nonsense: an error of their own, and nobody else's."""

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from build import ROOT, settings
from build.serve import Server
from one_pass import Prompt
from pika_tagger import TaggerClient
from tests.e2e.conftest import serving_changed
from tests.e2e.test_tagger_model import infer
from tests.support import endpoint

pytestmark = pytest.mark.e2e

WORDS = {"nan": "quokka", "failure": "axolotl", "babble": "zanzibar"}
BUG = "kakapo"
"""A word that the tagger itself stumbles over, with an error that quotes it."""


@pytest.fixture(scope="module")
def damaged(repository: Path, prompt: Prompt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The assembled repository with an engine that has faults."""

    def damage(copy: Path) -> None:
        engine = copy / "tensorrt_llm" / "1"
        shutil.copyfile(ROOT / "tests" / "support" / "damaged_engine.py", engine / "damaged_engine.py")
        (engine / "faults.json").write_text(json.dumps({fault: prompt.codec.encode_dialogue(word) for fault, word in WORDS.items()}))
        source = (engine / "model.py").read_text()
        assert "self._engine = CpuEngine(" in source
        source = source.replace("self._engine = CpuEngine(", "self._engine = DamagedEngine(")
        (engine / "model.py").write_text(source.replace("\nfrom cpu_engine", "\nfrom damaged_engine import DamagedEngine\nfrom cpu_engine"))
        text = copy / "tagger" / "1" / "one_pass" / "text.py"
        source, begin = text.read_text(), "        one_line = "
        assert source.count(begin) == 1
        text.write_text(source.replace(begin, f'        if "{BUG}" in text:\n            raise KeyError(text)\n{begin}'))

    with serving_changed(repository, tmp_path_factory.mktemp("damaged"), damage) as server:
        yield server


@pytest.mark.parametrize(
    ("fault", "strategy", "message"),
    [
        ("nan", b"codes", "the engine returned logits that are not finite numbers"),
        ("nan", b"words", "the engine returned logits that are not finite numbers"),
        ("failure", b"codes", "the engine failed: ONNX Runtime failed: out of memory"),
        ("failure", b"words", "the engine failed: ONNX Runtime failed: out of memory"),
        ("failure", b"json", "the engine failed: ONNX Runtime failed: out of memory"),
        ("babble", b"json", "the model did not answer with the JSON that was asked for"),
    ],
)
def test_a_fault_of_the_engine_is_an_internal_error_without_any_words(damaged: Server, fault: str, strategy: bytes, message: str) -> None:
    fields = {"user_last_message": [WORDS[fault].encode()], "pika_response": [b"Wow, what an animal!"], "strategy": [strategy]}
    with pytest.raises(InferenceServerException, match=message) as caught:
        infer(damaged, **fields)
    assert caught.value.status() == "StatusCode.INTERNAL"
    assert caught.value.message().startswith(message)  # and not wrapped into what Triton says when a model raises
    assert "animal" not in str(caught.value)
    assert WORDS[fault] not in str(caught.value)


def test_a_bug_of_the_tagger_is_told_by_its_place_and_not_by_its_words(damaged: Server) -> None:
    with pytest.raises(InferenceServerException) as caught:
        infer(damaged, user_last_message=[b"hi", BUG.encode()], pika_response=[b"Hello!", b"Hello!"])
    assert caught.value.status() == "StatusCode.INTERNAL"
    assert re.fullmatch(r"row 2 of 2: KeyError in text\.py, line \d+: this is a fault of the tagger, report it", caught.value.message()), (
        caught.value.message()
    )


def test_failures_are_counted_by_their_reason(damaged: Server) -> None:
    before = endpoint.settled(damaged)
    asked = [("nan", b"codes"), ("failure", b"words"), ("babble", b"json"), ("babble", b"json")]
    for child, strategy in [*((WORDS[fault], strategy) for fault, strategy in asked), (BUG, b"codes"), ("hi", b"guess")]:
        with pytest.raises(InferenceServerException):
            infer(damaged, user_last_message=[b"hi", child.encode()], pika_response=[b"Hello!"] * 2, strategy=[b"codes", strategy])
    grown = endpoint.growth(before, endpoint.settled(damaged))
    failures = {"engine": 2, "invalid_answer": 2, "internal": 1, "invalid_request": 1}
    assert {name: value for name, value in grown.items() if "tokens" not in name} == {
        **{f'pika_tag_failures_total{{reason="{reason}"}}': number for reason, number in failures.items()},
        "pika_invalid_answers_total": 2,
    }
    assert not [word for word in (*WORDS.values(), BUG) if word in endpoint.text(damaged)]


def test_others_get_their_tags_meanwhile(damaged: Server, client: TaggerClient) -> None:
    children = ["hello", *WORDS.values(), BUG] * 10

    def answer(child: str) -> str:
        try:
            return str(infer(damaged, user_last_message=[child.encode()], pika_response=[b"Hello, my friend!"]).as_numpy("emotion_name"))
        except InferenceServerException as error:
            return str(error.status())

    # No more callers than may wait, or some would be refused.
    with ThreadPoolExecutor(settings.target("cpu").tagger_queue_size) as pool:
        found = list(pool.map(answer, children))
    honest = client.tag(user_last_message="hello", pika_response="Hello, my friend!").emotion_name
    tagged = client.tag(user_last_message=WORDS["babble"], pika_response="Hello, my friend!").emotion_name
    assert found == [f"[[b'{honest}']]", "StatusCode.INTERNAL", "StatusCode.INTERNAL", f"[[b'{tagged}']]", "StatusCode.INTERNAL"] * 10


def test_the_log_has_no_dialogue_in_it(damaged: Server) -> None:
    with pytest.raises(InferenceServerException):
        infer(damaged, user_last_message=[WORDS["nan"].encode()], pika_response=[b"Zzyzx"])
    assert damaged.log is not None
    log = damaged.log.read_text()
    assert "tensorrt_llm" in log
    assert not [word for word in (*WORDS.values(), BUG, "Zzyzx") if word in log]
