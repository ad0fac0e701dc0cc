"""A model repository is assembled only if task, tokenizer and engine fit together, and it needs nothing outside itself."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build import manifest, repository
from build.contract import MODELS
from build.errors import ManifestError, PromptError, SettingError
from build.settings import TASKS
from one_pass import CodeTable, Prompt, Task, TextCodec, make_strategies
from tests.support import another_task, tokenizers_for_tests
from tests.support.checkout import Checkout


@pytest.fixture(params=tokenizers_for_tests.KINDS)
def ready(request: pytest.FixtureRequest, place: Checkout) -> Checkout:
    """A model with checkpoint and engine."""
    return with_tokenizer(place, tokenizers_for_tests.tokenizer_json(request.param))


def with_tokenizer(place: Checkout, tokenizer_json: str, context_tokens: int = 4096) -> Checkout:
    place.finished("awq", {"tokenizer.json": tokenizer_json, "tokenizer_config.json": '{"dialogue_form": "written"}'})
    place.finished("engine-cpu", {"genai_config.json": json.dumps({"search": {"max_length": context_tokens}}), "model.onnx": "engine"})
    return place


def assembled(place: Checkout, strategy: str = "codes") -> Path:
    repository.assemble(place.model, place.target, strategy)
    return place.model.folder / "triton-cpu"


def config_of(model: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_the_result_is_five_models_with_all_that_they_need(ready: Checkout) -> None:
    folder = assembled(ready)
    files = set(manifest.verify_contents(folder).files)
    assert {path.split("/")[0] for path in files} == {"tagger", *MODELS}
    assert {
        "tagger/config.pbtxt",
        "tagger/1/model.py",
        "tagger/1/task.toml",
        "tagger/1/engine.py",
        "tagger/1/metrics.py",
        "tagger/1/tokenizer.json",
        "tagger/1/tokenizer_config.json",
        "tagger/1/one_pass/__init__.py",
        "tensorrt_llm/config.pbtxt",
        "tensorrt_llm/1/model.py",
        *(f"tensorrt_llm/1/{name}.py" for name in ("cpu_engine", "generation", "sampling", "scheduler", "tensors")),
        "preprocessing/config.pbtxt",
        "preprocessing/1/model.py",
        "preprocessing/1/text_inputs.py",
        "preprocessing/1/tokenizer.json",
        "preprocessing/1/tokenizer_config.json",
        "postprocessing/config.pbtxt",
        "postprocessing/1/model.py",
        "postprocessing/1/tokenizer.json",
        "ensemble/config.pbtxt",
        "ensemble/1/.keep",
        "tensorrt_llm/1/engine/genai_config.json",
        "tensorrt_llm/1/engine/model.onnx",
    } <= files
    assert not any("__pycache__" in path or path.endswith(".pyc") for path in files)
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_the_result_can_be_moved(ready: Checkout, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(assembled(ready), moved)
    for name in ("awq", "engine-cpu", "triton-cpu"):
        shutil.rmtree(ready.model.folder / name)
    manifest.verify_contents(moved)
    assert str(tmp_path) not in "".join(path.read_text() for path in moved.rglob("config.pbtxt"))
    task, codec = Task.load(moved / "tagger" / "1" / "task.toml"), TextCodec.load(moved / "tagger" / "1" / "tokenizer.json")
    assert len(CodeTable(task, codec).token_ids) >= 26


def test_the_engine_is_not_copied_where_a_link_will_do(ready: Checkout) -> None:
    linked = assembled(ready) / "tensorrt_llm" / "1" / "engine" / "model.onnx"
    assert linked.samefile(ready.model.folder / "engine-cpu" / "model.onnx")


def test_placeholders_say_what_task_and_target_are(ready: Checkout) -> None:
    config = config_of(assembled(ready) / "tagger")
    task = tokenizers_for_tests.pika_mood()
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    assert parameters["labels"] == ",".join(task.label_names)
    assert parameters["task"] == f"pika_mood/{task.version}"
    assert parameters["tokens_per_block"] == "16"
    assert parameters["strategy"] == "codes"


@pytest.mark.parametrize("strategy", ["codes", "words", "json"])
def test_the_strategy_of_requests_that_name_none_is_a_setting(place: Checkout, strategy: str) -> None:
    with_tokenizer(place, tokenizers_for_tests.tokenizer_json("byte_level"))
    assert repository.known_strategy(strategy) == strategy
    folder = assembled(place, strategy)
    assert config_of(folder / "tagger").parameters["strategy"].string_value == strategy
    assert manifest.read(folder).settings["strategy"] == strategy


@pytest.mark.parametrize("decoupled", [True, False])
def test_decoupled_goes_to_the_engine_and_to_whoever_calls_it(place: Checkout, decoupled: bool) -> None:
    with_tokenizer(place, tokenizers_for_tests.tokenizer_json("byte_level"))
    repository.assemble(place.model, place.target, "codes", decoupled)
    folder = place.model.folder / "triton-cpu"
    assert config_of(folder / "tensorrt_llm").model_transaction_policy.decoupled == decoupled
    assert config_of(folder / "tagger").parameters["engine_decoupled"].string_value == str(decoupled).lower()
    assert not config_of(folder / "tagger").model_transaction_policy.decoupled
    assert manifest.read(folder).settings["decoupled"] == ("yes" if decoupled else "no")


def test_the_targets_slots_and_queues_go_to_engine_and_tagger(place: Checkout) -> None:
    with_tokenizer(place, tokenizers_for_tests.tokenizer_json("byte_level"))
    repository.assemble(place.model, replace(place.target, generation_slots=7, max_queue_size=9, tagger_queue_size=11), "codes")
    folder = place.model.folder / "triton-cpu"
    assert config_of(folder / "tagger").dynamic_batching.default_queue_policy.max_queue_size == 11
    parameters = config_of(folder / "tensorrt_llm").parameters
    found = {name: value.string_value for name, value in parameters.items()}
    assert found == {"tokens_per_block": "16", "generation_slots": "7", "max_queue_size": "9"}


def test_the_cpu_target_has_more_taggers_than_its_engine_needs_so_that_no_queue_stands_still(ready: Checkout) -> None:
    assert repository.served_tagger_instances(assembled(ready)) == repository.FEWEST_TAGGER_INSTANCES > 2


def test_the_cpu_engine_is_warmed_up_with_what_the_tagger_sends(ready: Checkout) -> None:
    folder = assembled(ready) / "tensorrt_llm"
    (request,) = config_of(folder).model_warmup
    prompt = Prompt(Task.load(ready.model.task_file), TextCodec.load(folder.parent / "tagger" / "1" / "tokenizer.json"), 16)
    raw = (folder / "warmup" / request.inputs["input_ids"].input_data_file).read_bytes()
    assert np.frombuffer(raw, np.int32).tolist() == prompt.encode(prompt.task.examples[0].dialogue)


@pytest.mark.parametrize("name", ["", "Codes", "letters"])
def test_an_unknown_strategy_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(SettingError, match=f"^strategy={name} is not known; the tagger has codes, words, json$"):
        repository.known_strategy(name)


@pytest.mark.parametrize("kind", tokenizers_for_tests.KINDS)
def test_another_task_with_other_labels_and_another_flag_is_assembled_as_well(
    place: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "pika_mood.toml").write_text(another_task.TEXT, encoding="utf-8")
    monkeypatch.setattr("build.settings.TASKS", tmp_path)
    with_tokenizer(place, tokenizers_for_tests.tokenizer_json(kind))
    config = config_of(assembled(place) / "tagger")
    assert config.parameters["labels"].string_value == "mưa,mưa rào,gió"
    assert {tensor.name: list(tensor.dims) for tensor in config.output}["emotion_scores"] == [3]


def test_inputs_and_facts_are_recorded(ready: Checkout) -> None:
    folder = assembled(ready)
    made = manifest.read(folder)
    assert made.inputs == {
        "engine": manifest.read(ready.model.folder / "engine-cpu").content_hash,
        "awq": manifest.read(ready.model.folder / "awq").content_hash,
        "task": manifest.sha256_of(ready.model.task_file),
    }
    codec = TextCodec.load(folder / "tagger" / "1" / "tokenizer.json")
    prompt = Prompt(tokenizers_for_tests.pika_mood(), codec, 16)
    assert made.facts["prefix_tokens"] == len(prompt.prefix_ids)
    assert made.facts["prefix_tokens"] % 16 == 0
    assert made.facts["max_prompt_tokens"] == prompt.max_tokens
    assert made.facts["max_answer_tokens"] == max(strategy.max_answer_tokens for strategy in make_strategies(prompt).values())
    assert made.facts["labels"] == 13


@pytest.mark.parametrize("missing", ["awq", "engine-cpu"])
def test_an_unfinished_stage_before_is_refused(ready: Checkout, missing: str) -> None:
    (ready.model.folder / missing / manifest.NAME).unlink()
    with pytest.raises(ManifestError, match=rf"{missing} has no manifest\.json"):
        assembled(ready)
    assert "triton-cpu" not in ready.left()


@pytest.mark.parametrize("kind", tokenizers_for_tests.KINDS)
def test_a_prompt_that_is_too_long_for_the_engine_is_refused_with_the_numbers(place: Checkout, kind: str) -> None:
    prompt = Prompt(tokenizers_for_tests.pika_mood(), tokenizers_for_tests.codec(kind), 16)
    n_answer = make_strategies(prompt)["json"].max_answer_tokens
    with_tokenizer(place, tokenizers_for_tests.tokenizer_json(kind), context_tokens=prompt.max_tokens + n_answer - 1)
    words = (
        f"the longest prompt has {prompt.max_tokens} tokens ({len(prompt.prefix_ids)} of prefix) and the strategy json adds up to "
        f"{n_answer}, but the engine holds {prompt.max_tokens + n_answer - 1}: shorten the instructions or examples in pika_mood.toml"
    )
    with pytest.raises(PromptError, match=re.escape(words)):
        assembled(place)
    assert "triton-cpu" not in place.left()
    with_tokenizer(place, tokenizers_for_tests.tokenizer_json(kind), context_tokens=prompt.max_tokens + n_answer)
    assert assembled(place)


def test_codes_that_clash_are_refused_with_the_task_file_and_the_model(place: Checkout) -> None:
    spec = json.loads(tokenizers_for_tests.tokenizer_json("byte_level"))
    spec["normalizer"] = {"type": "Lowercase"}
    with_tokenizer(place, json.dumps(spec))
    with pytest.raises(PromptError, match=r"^task pika_mood\.toml and small do not fit together: the codes 'h' and 'H' share token \d+"):
        assembled(place)
    assert "triton-cpu" not in place.left()


def test_labels_that_words_cannot_tell_apart_are_refused_with_both(
    place: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = another_task.TEXT.replace('"mưa"', '"🦖"').replace('"gió"', '"🐘"')
    (tmp_path / "pika_mood.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("build.settings.TASKS", tmp_path)
    spec = json.loads(tokenizers_for_tests.tokenizer_json("sentence_piece"))
    spec["model"]["byte_fallback"] = False  # then every character outside the vocabulary becomes <unk>
    with_tokenizer(place, json.dumps(spec))
    with pytest.raises(
        PromptError, match=r"^task pika_mood\.toml and small do not fit together: .* spells '🦖' and '🐘' alike .*: rename one"
    ):
        assembled(place)
    assert "triton-cpu" not in place.left()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('code = "h"', 'code = "c"', "two labels share the code 'c'"),
        ("threshold = 0.", "threshold = 1.", "it is a probability between 0 and 1"),
        ("Oh no, I am so sorry.", " ", "an example cannot be asked: pika_response is blank"),
    ],
)
def test_a_wrong_task_file_is_refused_by_name(
    place: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str, words: str
) -> None:
    text = (TASKS / "pika_mood.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "pika_mood.toml").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr("build.settings.TASKS", tmp_path)
    with_tokenizer(place, tokenizers_for_tests.tokenizer_json("byte_level"))
    with pytest.raises(PromptError, match=rf"^task pika_mood\.toml and small do not fit together: .*{re.escape(words)}"):
        assembled(place)


def test_a_tokenizer_that_cannot_be_read_is_refused(place: Checkout) -> None:
    with_tokenizer(place, "{}")
    with pytest.raises(PromptError, match="the tokenizer cannot be read"):
        assembled(place)
