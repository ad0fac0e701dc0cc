"""Target vllm: no engine, the AWQ checkpoint itself, vLLM's settings in its config.pbtxt, and an environment of its own to serve in."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build import manifest, repository, serve, settings
from build.contract import MODELS
from build.errors import ManifestError, PromptError, ServerError
from build.verify_contract import declared
from one_pass import Prompt, Task, TextCodec
from tests.support import tokenizers_for_tests
from tests.support.checkout import Checkout

VLLM = settings.target("vllm")


@pytest.fixture
def ready(place: Checkout) -> Checkout:
    """A quantized model without any engine."""
    files = {"tokenizer.json": tokenizers_for_tests.tokenizer_json("byte_level"), "tokenizer_config.json": '{"dialogue_form": "written"}'}
    place.finished("awq", {**files, "config.json": "{}", "model.safetensors": "weights"})
    return replace(place, target=VLLM, model=replace(place.model, max_seq_len=4096))


def assembled(place: Checkout) -> Path:
    repository.assemble(place.model, place.target, "codes")
    return place.model.folder / "triton-vllm"


def config_of(model: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_the_checkpoint_is_linked_and_the_code_is_whole(ready: Checkout) -> None:
    folder = assembled(ready)
    engine = folder / "tensorrt_llm" / "1"
    assert {path.name for path in engine.iterdir()} == {
        "awq",
        *(f"{name}.py" for name in ("model", "vllm_engine", "stepper", "answer", "raw_logits")),
        *(f"{name}.py" for name in ("engine_request", "progress", "replies", "tensors")),
    }
    assert {path.name for path in (engine / "awq").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (engine / "awq" / "model.safetensors").samefile(ready.model.folder / "awq" / "model.safetensors")
    assert manifest.verify_contents(folder).inputs.keys() == {"awq", "task"}


def test_the_engine_has_all_tensors_of_the_contract(ready: Checkout) -> None:
    found = declared(config_of(assembled(ready) / "tensorrt_llm"))
    assert found == MODELS["tensorrt_llm"]


def test_it_is_warmed_up_with_the_prefix(ready: Checkout) -> None:
    folder = assembled(ready) / "tensorrt_llm"
    (request,) = config_of(folder).model_warmup
    raw = (folder / "warmup" / request.inputs["input_ids"].input_data_file).read_bytes()
    codec = TextCodec.load(folder.parent / "tagger" / "1" / "tokenizer.json")
    prefix = Prompt(Task.load(ready.model.task_file), codec, VLLM.tokens_per_block).prefix_ids
    assert np.frombuffer(raw, np.int32)[: len(prefix)].tolist() == list(prefix)


def test_vllm_is_given_what_the_target_says(ready: Checkout) -> None:
    assert VLLM.vllm is not None
    changed = replace(VLLM, max_queue_size=9, vllm=replace(VLLM.vllm, max_num_seqs=5, gpu_memory_utilization=0.25))
    folder = assembled(replace(ready, target=changed))
    config = config_of(folder / "tensorrt_llm")
    assert {name: json.loads(value.string_value) for name, value in config.parameters.items()} == {
        "block_size": VLLM.tokens_per_block,
        "max_model_len": 4096,
        "max_num_seqs": 5,
        "max_num_batched_tokens": VLLM.vllm.max_num_batched_tokens,
        "gpu_memory_utilization": 0.25,
        "max_queue_size": 9,
    }
    # As many taggers as vLLM computes requests together, and one that makes the next prompt.
    assert repository.served_tagger_instances(folder) == 6


@pytest.mark.parametrize("name", ["vllm", "vllm-h200"])
def test_every_such_target_leaves_memory_to_others_and_a_step_holds_the_longest_prompt(name: str) -> None:
    target = settings.target(name)
    assert target.vllm is not None
    assert target.gpu is None
    assert target.vllm.gpu_memory_utilization <= 0.5
    longest = max(settings.model(model).max_seq_len for model in ("pika-tiny", "phi-3-mini"))
    assert target.vllm.max_num_batched_tokens >= longest
    assert target.max_queue_size >= target.vllm.max_num_seqs


def test_without_a_checkpoint_nothing_is_assembled(ready: Checkout) -> None:
    (ready.model.folder / "awq" / manifest.NAME).unlink()
    with pytest.raises(ManifestError, match=r"awq has no manifest\.json"):
        assembled(ready)
    assert ready.left() == ["awq"]


def test_a_prompt_that_vllm_would_not_take_is_refused(ready: Checkout) -> None:
    with pytest.raises(PromptError, match="but the engine holds 100: shorten"):
        assembled(replace(ready, model=replace(ready.model, max_seq_len=100)))


def test_where_vllm_is_not_installed_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve, "VLLM_ENVIRONMENT", tmp_path)
    with pytest.raises(ServerError, match="run `make install-vllm` with the Python of this environment"):
        serve.vllm_python_bin()
    library = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (tmp_path / "lib" / library / "site-packages" / "vllm").mkdir(parents=True)
    assert serve.vllm_python_bin() == tmp_path / "bin"
