"""The config.pbtxt templates carry the tensors of the contract, and rendering proves that Triton can read them."""

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build import ROOT, repository
from build.errors import PromptError
from tests.support.checkout import Checkout

Tensors = dict[str, tuple[str, list[int]]]

TAGGER_VALUES: dict[str, object] = {
    "max_batch_size": 16,
    "n_labels": 13,
    "instances": 2,
    "labels": "happy,calm",
    "task": "pika_mood/1",
    "tokens_per_block": 32,
    "strategy": "codes",
    "decoupled": "false",
    "queue_size": 5,
}
TAGGER_INPUTS: Tensors = {name: ("STRING", [1]) for name in ("user_last_message", "pika_response", "pika_last_message", "strategy")}
TAGGER_OPTIONAL = {"pika_last_message", "strategy"}
TAGGER_OUTPUTS: Tensors = {
    "emotion_name": ("STRING", [1]),
    "celebrate": ("STRING", [1]),
    "emotion_scores": ("FP32", [13]),
    "celebrate_score": ("FP32", [1]),
}

ENGINE_VALUES: dict[str, object] = {
    "decoupled": "false",
    "warmup": "",
    "parameters": 'parameters [ { key: "a" value: { string_value: "1" } } ]',
}


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> model_config_pb2.ModelConfig:
    return rendered(tmp_path_factory.mktemp("tagger"), "tagger", TAGGER_VALUES)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> model_config_pb2.ModelConfig:
    return rendered(tmp_path_factory.mktemp("engine"), "tensorrt_llm/python", ENGINE_VALUES)


def rendered(folder: Path, name: str, values: dict[str, object]) -> model_config_pb2.ModelConfig:
    repository.render(ROOT / "model_repository" / name / "config.pbtxt", folder / "config.pbtxt", values)
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def tensors(declared: "model_config_pb2.RepeatedTensors") -> Tensors:
    return {t.name: (model_config_pb2.DataType.Name(t.data_type).removeprefix("TYPE_"), list(t.dims)) for t in declared}


def test_the_tagger_takes_the_texts_of_the_contract(tagger: model_config_pb2.ModelConfig) -> None:
    assert tensors(tagger.input) == TAGGER_INPUTS
    assert {t.name for t in tagger.input if t.optional} == TAGGER_OPTIONAL


def test_the_tagger_gives_the_answers_of_the_contract(tagger: model_config_pb2.ModelConfig) -> None:
    assert tensors(tagger.output) == TAGGER_OUTPUTS


def test_the_tagger_is_a_python_model_with_a_batch_dimension(tagger: model_config_pb2.ModelConfig) -> None:
    assert (tagger.name, tagger.backend, tagger.max_batch_size) == ("tagger", "python", 16)
    assert [(group.kind, group.count) for group in tagger.instance_group] == [(model_config_pb2.ModelInstanceGroup.KIND_CPU, 2)]
    parameters = {name: value.string_value for name, value in tagger.parameters.items()}
    assert parameters == {
        "labels": "happy,calm",
        "task": "pika_mood/1",
        "tokens_per_block": "32",
        "strategy": "codes",
        "engine_decoupled": "false",
    }


def test_a_full_queue_refuses_and_requests_are_not_joined(tagger: model_config_pb2.ModelConfig) -> None:
    policy = tagger.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (5, 0)
    assert list(tagger.dynamic_batching.preferred_batch_size) == [1]
    assert tagger.dynamic_batching.max_queue_delay_microseconds == 0


def test_an_engine_in_python_takes_all_that_the_tagger_sends(engine: model_config_pb2.ModelConfig) -> None:
    source = (ROOT / "model_repository" / "tagger" / "1" / "engine.py").read_text()
    sent = set(re.findall(r'"(\w+)"', source)) & tensors(engine.input).keys()
    flags = {"return_generation_logits", "exclude_input_in_output", "return_perf_metrics"}
    assert sent == {"input_ids", "input_lengths", "request_output_len", "end_id", *flags}


def test_an_engine_in_python_has_one_instance_and_no_queue_of_its_own(engine: model_config_pb2.ModelConfig) -> None:
    assert (engine.name, engine.backend) == ("tensorrt_llm", "python")
    assert engine.max_batch_size == 1
    assert [group.count for group in engine.instance_group] == [1]
    assert not engine.HasField("dynamic_batching")
    assert not engine.HasField("sequence_batching")
    parameters = {name: value.string_value for name, value in engine.parameters.items()}
    assert parameters == {"a": "1"}


@pytest.mark.parametrize("missing", TAGGER_VALUES)
def test_a_placeholder_without_a_value_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    values = {name: value for name, value in TAGGER_VALUES.items() if name != missing}
    with pytest.raises(PromptError, match=rf"model_repository/tagger/config\.pbtxt cannot be filled in: .*{missing}"):
        rendered(tmp_path, "tagger", values)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name: "x"\nmax_batch_size: ${size}', "'size'"),
        ('name: "x" price: "5 $"', "Invalid placeholder"),
        ('name: "x', "ParseError"),
        ('nonsense: "x"', 'has no field named "nonsense"'),
        ("max_batch_size: many", "ParseError"),
        ('name: "x" input [ { name: "a" data_type: TYPE_TEXT } ]', "TYPE_TEXT"),
    ],
)
def test_what_triton_could_not_read_is_refused_with_the_file_and_the_reason(place: Checkout, text: str, words: str) -> None:
    template, out = place.root / "model_repository" / "odd.pbtxt", place.root / "config.pbtxt"
    template.parent.mkdir()
    template.write_text(text)
    with pytest.raises(PromptError, match=rf"^model_repository/odd\.pbtxt cannot be filled in: .*{re.escape(words)}"):
        repository.render(template, out, {})
    assert not out.exists()


def test_values_are_filled_in(place: Checkout) -> None:
    template, out = place.root / "template.pbtxt", place.root / "config.pbtxt"
    template.write_text('name: "${name}"\nmax_batch_size: ${size}\n')
    repository.render(template, out, {"name": "Đúng", "size": 4})
    assert out.read_text(encoding="utf-8") == 'name: "Đúng"\nmax_batch_size: 4\n'
