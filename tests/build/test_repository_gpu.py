"""The model repository of a GPU target: NVIDIA's tensors to the last one, an engine that fits, and a warm-up that is a real tag.

No server with NVIDIA's backend has loaded one yet; what is checked here is what can be checked without it.
"""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build import ROOT, engine_record, manifest, repository, settings, warmup
from build.container import Machine
from build.engine_record import EngineRecord
from build.errors import EngineError, ManifestError, PromptError
from build.settings import Target
from one_pass import Prompt
from tests.support import tokenizers_for_tests
from tests.support.checkout import Checkout

TARGETS = ("l4", "rtx3090", "a10g")
L4 = settings.target("l4")
BUILT = Machine("1.0.0", "10.11.0.33", "NVIDIA L4", "8.9", "570.124.06")

# TensorRT-LLM's Triton backend 1.0.0: (datatype, shape, "scalar" without the last dimension inside the backend or "ragged") -> names.
REQUIRED = {"input_lengths", "request_output_len"}
INPUTS = {
    ("INT32", (-1,), "ragged"): "input_ids draft_input_ids decoder_input_ids retention_token_range_starts retention_token_range_ends "
    "retention_token_range_priorities retention_token_range_durations_ms",
    ("INT32", (1,), "scalar"): "encoder_output_lengths input_lengths request_output_len num_return_sequences decoder_input_lengths end_id "
    "pad_id beam_width runtime_top_k runtime_top_p_reset_ids min_tokens prompt_vocab_size",
    ("INT32", (1,), "ragged"): "retention_decode_priority retention_decode_duration_ms lookahead_window_size lookahead_ngram_size "
    "lookahead_verification_set_size",
    ("INT32", (2, -1), "ragged"): "stop_words_list bad_words_list",
    ("INT32", (-1, 3), "ragged"): "lora_config",
    ("INT64", (1,), ""): "mrope_position_deltas",
    ("UINT64", (1,), "scalar"): "seed lora_task_id",
    ("UINT64", (-1,), "ragged"): "prompt_table_extra_ids",
    ("UINT8", (-1,), "ragged"): "context_phase_params",
    ("FP32", (1,), "scalar"): "draft_acceptance_threshold temperature runtime_top_p runtime_top_p_min runtime_top_p_decay len_penalty "
    "repetition_penalty beam_search_diversity_rate presence_penalty frequency_penalty",
    ("FP32", (-1,), "ragged"): "embedding_bias",
    ("FP32", (-1,), ""): "mrope_rotary_cos_sin",
    ("FP32", (-1, -1), "ragged"): "draft_logits",
    ("FP16", (-1, -1), "ragged"): "encoder_input_features prompt_embedding_table lora_weights",
    ("BOOL", (1,), "scalar"): "early_stopping return_log_probs return_context_logits return_generation_logits return_perf_metrics "
    "return_num_input_tokens return_num_output_tokens exclude_input_in_output stop streaming",
    ("BOOL", (1,), "ragged"): "skip_cross_attn_blocks",
    ("BOOL", (-1, -1), "ragged"): "cross_attention_mask",
    ("STRING", (1,), "ragged"): "guided_decoding_guide_type guided_decoding_guide",
}
OUTPUTS = {
    ("INT32", (-1, -1)): "output_ids",
    ("INT32", (-1,)): "sequence_length",
    ("INT32", (1,)): "batch_index sequence_index kv_cache_alloc_new_blocks kv_cache_reused_blocks kv_cache_alloc_total_blocks "
    "total_accepted_draft_tokens total_draft_tokens num_input_tokens num_output_tokens",
    ("INT64", (1,)): "arrival_time_ns first_scheduled_time_ns first_token_time_ns last_token_time_ns",
    ("UINT8", (-1,)): "context_phase_params",
    ("FP32", (1,)): "acceptance_rate",
    ("FP32", (-1,)): "cum_log_probs",
    ("FP32", (-1, -1)): "output_log_probs context_logits",
    ("FP32", (-1, -1, -1)): "generation_logits",
}


@pytest.fixture
def ready(place: Checkout) -> Checkout:
    """A model with tokenizer and an engine for the L4."""
    place.finished("awq", {"tokenizer.json": tokenizers_for_tests.tokenizer_json("sentence_piece"), "tokenizer_config.json": "{}"})
    with_engine(place)
    return place


def with_engine(place: Checkout, target: str = "l4", **changes: Any) -> None:
    gpu = settings.target(target).gpu
    assert gpu is not None
    record = EngineRecord(
        target=target,
        built_in="an image",
        machine=Machine("1.0.0", "10.11.0.33", gpu.name, gpu.compute_capability, "570.124.06"),
        checkpoint_hash="c" * 64,
        awq_hash=manifest.read(place.model.folder / "awq").content_hash,
        flags=(),
        max_batch_size=8,
        max_seq_len=4096,
        tokens_per_block=32,
    )
    folder = place.model.folder / f"engine-{target}"
    shutil.rmtree(folder, ignore_errors=True)
    with manifest.new_folder(folder, "build_engine", {}, {}, {}) as draft:
        (draft.path / "rank0.engine").write_text("an engine")
        (draft.path / "config.json").write_text("{}")
        engine_record.write(replace(record, **changes), draft.path)


def assembled(place: Checkout, target: Target = L4) -> Path:
    repository.assemble(place.model, target, "codes")
    return place.model.folder / f"triton-{target.name}"


def engine_config(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "tensorrt_llm" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def parameters(config: model_config_pb2.ModelConfig) -> dict[str, str]:
    return {name: value.string_value for name, value in config.parameters.items()}


def prompt_of(place: Checkout) -> Prompt:
    return Prompt(tokenizers_for_tests.pika_mood(), tokenizers_for_tests.codec("sentence_piece"), L4.tokens_per_block)


def dtype_and_dims(tensor: "model_config_pb2.ModelInput") -> tuple[str, tuple[int, ...]]:
    return model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_"), tuple(tensor.dims)


def test_the_engine_takes_the_tensors_of_nvidias_backend_and_no_others(ready: Checkout) -> None:
    expected = {name: kind for kind, names in INPUTS.items() for name in names.split()}
    found = {}
    for tensor in engine_config(assembled(ready)).input:
        assert not (tensor.HasField("reshape") and list(tensor.reshape.shape))
        handling = "ragged" if tensor.allow_ragged_batch else "scalar" if tensor.HasField("reshape") else ""
        found[tensor.name] = (*dtype_and_dims(tensor), handling)
        assert tensor.optional == (tensor.name not in REQUIRED)
    assert found == expected


def test_the_engine_gives_the_tensors_of_nvidias_backend_and_no_others(ready: Checkout) -> None:
    expected = {name: kind for kind, names in OUTPUTS.items() for name in names.split()}
    assert {tensor.name: dtype_and_dims(tensor) for tensor in engine_config(assembled(ready)).output} == expected


@pytest.mark.parametrize("name", TARGETS)
def test_what_must_be_filled_is_filled_for_every_target(ready: Checkout, name: str) -> None:
    target = settings.target(name)
    assert target.gpu is not None
    with_engine(ready, name)
    config = engine_config(assembled(ready, target))
    assert (config.name, config.backend, config.max_batch_size) == ("tensorrt_llm", "tensorrtllm", target.gpu.max_batch_size)
    assert not config.model_transaction_policy.decoupled
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    given = parameters(config)
    assert given["gpt_model_type"] == "inflight_fused_batching"
    assert given["gpt_model_path"] == "/models/tensorrt_llm/1/engine"
    assert given["enable_kv_cache_reuse"] == "true"
    assert int(given["max_tokens_in_paged_kv_cache"]) == target.gpu.kv_cache_tokens
    assert float(given["kv_cache_free_gpu_mem_fraction"]) == target.gpu.kv_cache_free_gpu_mem_fraction
    assert given["batch_scheduler_policy"] == "guaranteed_no_evict"
    # The backend reads these without asking whether they are there.
    assert {"tokenizer_dir", "guided_decoding_backend", "xgrammar_tokenizer_info_path"} <= given.keys()
    assert "$" not in text_format.MessageToString(config)


def test_the_engine_lies_where_its_configuration_says(ready: Checkout) -> None:
    folder = assembled(ready)
    inside = Path(parameters(engine_config(folder))["gpt_model_path"]).relative_to(settings.container().model_repository)
    assert {path.name for path in (folder / inside).iterdir()} == {"rank0.engine", "config.json", engine_record.NAME}
    assert (folder / inside / "rank0.engine").samefile(ready.model.folder / "engine-l4" / "rank0.engine")


@pytest.mark.parametrize("name", TARGETS)
def test_the_tagger_can_fill_a_batch_of_the_engine_and_prepare_the_next_prompt(ready: Checkout, name: str) -> None:
    with_engine(ready, name)
    folder = assembled(ready, settings.target(name))
    tagger = text_format.Parse((folder / "tagger" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    (group,) = tagger.instance_group
    assert group.count == engine_config(folder).max_batch_size + 1 >= repository.FEWEST_TAGGER_INSTANCES


def test_what_is_cut_short_later_is_refused_before_a_server_starts(ready: Checkout) -> None:
    folder = assembled(ready)
    engine = folder / "tensorrt_llm" / "1" / "engine"
    engine_record.require_whole(engine)
    (folder / "tagger" / "1" / "tokenizer.json").rename(folder / "elsewhere")
    with pytest.raises(ManifestError, match=r"tokenizer\.json is missing"):
        engine_record.require_whole(engine)
    (folder / "elsewhere").rename(folder / "tagger" / "1" / "tokenizer.json")
    (engine / "rank0.engine").unlink()
    (engine / "rank0.engine").write_text("an eng")
    with pytest.raises(ManifestError, match=r"rank0\.engine has 6 bytes, manifest\.json says 9"):
        engine_record.require_whole(engine)


def test_the_warm_up_is_a_tag_whose_prefix_is_held(ready: Checkout) -> None:
    folder = assembled(ready)
    (request,) = engine_config(folder).model_warmup
    sent = {}
    for name, field in request.inputs.items():
        raw = (folder / "tensorrt_llm" / warmup.FOLDER / field.input_data_file).read_bytes()
        dtype = np.bool_ if field.data_type == model_config_pb2.TYPE_BOOL else np.dtype("<i4")
        sent[name] = np.frombuffer(raw, dtype).reshape(list(field.dims)).tolist()
    prompt = prompt_of(ready)
    assert sent["input_ids"] == prompt.encode(prompt.task.examples[0].dialogue)
    assert sent["input_lengths"] == [len(sent["input_ids"])]
    assert (sent["request_output_len"], sent["end_id"], sent["return_generation_logits"]) == ([1], [-1], [True])
    start, end = sent["retention_token_range_starts"], sent["retention_token_range_ends"]
    assert (start, end) == ([0], [len(prompt.prefix_ids)])
    assert end[0] % L4.tokens_per_block == 0
    assert sent["retention_token_range_priorities"] == [warmup.HIGHEST_PRIORITY]
    assert (request.batch_size, request.count > 1) == (1, True)


def test_the_warm_up_sends_all_that_the_tagger_sends(ready: Checkout) -> None:
    source = (ROOT / "model_repository" / "tagger" / "1" / "engine.py").read_text()
    names = {name for names in INPUTS.values() for name in names.split()}
    one_token = set(re.findall(r'"(\w+)"', source)) & names - {"exclude_input_in_output"}  # which is for longer answers
    (request,) = engine_config(assembled(ready)).model_warmup
    assert one_token <= request.inputs.keys() <= names


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"awq_hash": "b" * 64},
            EngineError,
            r"was built from the AWQ checkpoint bbbbbbbbbbbb, but .*awq, whose tokenizer .* is [0-9a-f]{12}:",
        ),
        ({"tokens_per_block": 64}, EngineError, "has blocks of 64 tokens, target=l4 wants 32"),
        ({"max_batch_size": 4}, EngineError, "takes 4 requests at once, target=l4 wants 8"),
        ({"machine": replace(BUILT, compute_capability="8.6")}, EngineError, "compute capability: built with 8.6, presets.toml has 8.9"),
        ({"machine": replace(BUILT, gpu="NVIDIA L40S")}, EngineError, "GPU: built with NVIDIA L40S, presets.toml has NVIDIA L4"),
        ({"machine": replace(BUILT, tensorrt_llm="1.2.1")}, EngineError, r"TensorRT-LLM: built with 1\.2\.1, presets\.toml has 1\.0\.0"),
        ({"machine": replace(BUILT, tensorrt="10.14.1.48")}, EngineError, r"built with 10\.14\.1\.48, presets\.toml has 10\.11\.0\.33"),
        ({"max_seq_len": 100}, PromptError, "the longest prompt has .* but the engine holds 100"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused_with_both_sides(
    ready: Checkout, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with_engine(ready, **changes)
    with pytest.raises(error, match=words):
        assembled(ready)
    assert "triton-l4" not in ready.left()


def test_an_engine_of_another_target_is_refused(ready: Checkout) -> None:
    with_engine(ready, "a10g")
    shutil.rmtree(ready.model.folder / "engine-l4")
    (ready.model.folder / "engine-a10g").rename(ready.model.folder / "engine-l4")
    with pytest.raises(EngineError, match="was built for target=a10g, not for l4"):
        assembled(ready)


def test_a_truncated_engine_is_refused(ready: Checkout) -> None:
    (ready.model.folder / "engine-l4" / "rank0.engine").write_text("an eng")
    with pytest.raises(ManifestError, match=r"rank0\.engine has 6 bytes, manifest\.json says 9"):
        assembled(ready)


def test_a_missing_tokenizer_is_refused(ready: Checkout) -> None:
    (ready.model.folder / "awq" / "tokenizer.json").unlink()
    with pytest.raises(ManifestError, match=r"tokenizer\.json is missing"):
        assembled(ready)


def test_an_engine_of_unknown_origin_is_refused(ready: Checkout) -> None:
    folder = ready.model.folder / "engine-l4"
    (folder / engine_record.NAME).unlink()
    (folder / manifest.NAME).unlink()
    manifest.seal(folder, "build_engine", {}, {}, ["rank0.engine", "config.json"])
    with pytest.raises(EngineError, match=r"has no engine_record\.json"):
        assembled(ready)


def test_the_manifest_can_be_read_by_the_next_stage(ready: Checkout) -> None:
    made = manifest.verify_contents(assembled(ready))
    assert {"tagger/config.pbtxt", "tensorrt_llm/config.pbtxt", "tensorrt_llm/warmup/input_ids"} <= made.files.keys()
    assert json.loads(json.dumps(made.facts))["prefix_tokens"] % 32 == 0
