"""The models that are assembled carry NVIDIA's tensors, all of them and no others, on every target."""

from collections import Counter
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build import ROOT, repository
from build.contract import MODELS
from build.verify_contract import declared

TEMPLATES = {
    "tensorrt_llm/python": "tensorrt_llm",
    "tensorrt_llm/trtllm": "tensorrt_llm",
    "preprocessing": "preprocessing",
    "postprocessing": "postprocessing",
    "ensemble": "ensemble",
}
VALUES: dict[str, object] = {
    "decoupled": "false",
    "max_batch_size": 8,
    "max_queue_size": 64,
    "parameters": "",
    "engine_dir": "/models/engine",
    "kv_cache_tokens": 1024,
    "kv_cache_free_gpu_mem_fraction": 0.5,
    "warmup": "",
}


def rendered(folder: Path, template: str, **values: object) -> model_config_pb2.ModelConfig:
    repository.render(ROOT / "model_repository" / template / "config.pbtxt", folder / "config.pbtxt", {**VALUES, **values})
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize(("template", "name"), TEMPLATES.items())
def test_a_model_has_the_tensors_of_the_contract_in_its_order(tmp_path: Path, template: str, name: str) -> None:
    config = rendered(tmp_path, template)
    assert config.name == name
    assert config.max_batch_size > 0
    for found, expected in zip(vars(declared(config)).values(), vars(MODELS[name]).values(), strict=True):
        assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize("name", MODELS)
def test_types_are_tritons(name: str) -> None:
    dtypes = {tensor.dtype for tensor in [*MODELS[name].inputs.values(), *MODELS[name].outputs.values()]}
    assert dtypes <= {"INT32", "INT64", "UINT8", "UINT64", "FP16", "FP32", "BOOL", "STRING"}


def test_what_must_be_sent_is_what_nvidias_models_ask_for() -> None:
    required = {model: {name for name, tensor in its.inputs.items() if not tensor.optional} for model, its in MODELS.items()}
    assert required == {
        "tensorrt_llm": {"input_lengths", "request_output_len"},
        "preprocessing": {"QUERY", "REQUEST_OUTPUT_LEN"},
        "postprocessing": {"TOKENS_BATCH", "SEQUENCE_LENGTH"},
        "ensemble": {"text_input", "max_tokens"},
    }


@pytest.mark.parametrize("template", ["tensorrt_llm/python", "tensorrt_llm/trtllm"])
@pytest.mark.parametrize("decoupled", [True, False])
def test_decoupled_is_a_setting_of_the_engine(tmp_path: Path, template: str, decoupled: bool) -> None:
    config = rendered(tmp_path, template, decoupled=str(decoupled).lower())
    assert config.model_transaction_policy.decoupled == decoupled


def test_the_ensemble_connects_everything_with_the_right_type(tmp_path: Path) -> None:
    inputs, outputs = MODELS["ensemble"].inputs, MODELS["ensemble"].outputs
    known, used = {name: tensor.dtype for name, tensor in inputs.items()}, Counter[str]()
    for step in rendered(tmp_path, "ensemble").ensemble_scheduling.step:
        takes, gives = MODELS[step.model_name].inputs, MODELS[step.model_name].outputs
        for name, source in step.input_map.items():
            assert takes[name].dtype == known[source]
            used[source] += 1
        assert {name for name, tensor in takes.items() if not tensor.optional} <= step.input_map.keys()
        for name, target in step.output_map.items():
            assert target not in known
            known[target] = gives[name].dtype
            if target in outputs:
                used[target] += 1
    assert {name: tensor.dtype for name, tensor in outputs.items()}.items() <= known.items()
    assert set(used) == known.keys(), "every tensor is used, and every input of the ensemble reaches a model"


def test_the_ensemble_goes_through_the_three_models_in_order(tmp_path: Path) -> None:
    config = rendered(tmp_path, "ensemble")
    assert [step.model_name for step in config.ensemble_scheduling.step] == ["preprocessing", "tensorrt_llm", "postprocessing"]
    assert {step.model_version for step in config.ensemble_scheduling.step} == {-1}
    engine = config.ensemble_scheduling.step[1].input_map
    renamed = {"runtime_top_k": "top_k", "runtime_top_p": "top_p", "len_penalty": "length_penalty", "streaming": "stream"}
    same = {"temperature", "seed", "min_tokens", "beam_width", "return_log_probs", "exclude_input_in_output", "return_perf_metrics"}
    assert {name: engine[name] for name in (*renamed, *same)} == {**renamed, **{name: name for name in same}}
