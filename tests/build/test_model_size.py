"""Sizes are those of the files that the stages really make, and of the GPU memory that the reference figures give."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from build import settings
from build.model_size import FORMATS, PHI_3_MINI, Shape, engine_memory, read_shape, shape_of
from build.settings import Gpu
from tests.support.checkout import Checkout

GROUPED = Shape(2, 128, 256, 4, 2, 1000)


def test_phi_3_mini_has_the_published_number_of_parameters() -> None:
    norms = (2 * 32 + 1) * 3072
    assert PHI_3_MINI.linear_parameters + 2 * PHI_3_MINI.head_parameters + norms == 3_821_079_552


def test_a_token_takes_384_kib_of_kv_cache() -> None:
    assert PHI_3_MINI.kv_bytes_per_token == 384 * 1024


def test_keys_and_values_that_heads_share_count_once() -> None:
    assert GROUPED.kv_size == 64
    assert GROUPED.linear_parameters == 2 * (128 * (128 + 64 + 64) + 128 * 128 + 3 * 128 * 256)
    assert GROUPED.kv_bytes_per_token == 2 * 2 * 64 * 2


def test_the_embedded_models_file_is_as_large_as_calculated() -> None:
    folder = settings.model("pika-tiny").folder / "hf"
    shape = read_shape(folder / "config.json")
    assert shape is not None
    size_bytes = (folder / "model.safetensors").stat().st_size
    assert size_bytes == pytest.approx(FORMATS["fp16"].weight_bytes(shape), rel=0.005)  # norms and the file's header come on top


@pytest.mark.parametrize(("format", "gb"), [("fp16", 7.64), ("int4_awq", 2.32), ("fp8", 4.02), ("w4a8", 2.26)])
def test_weights_of_phi_3_mini(format: str, gb: float) -> None:
    assert FORMATS[format].weight_bytes(PHI_3_MINI) / 1e9 == pytest.approx(gb, abs=0.005)


def test_an_engine_wants_memory_for_what_it_was_built_for() -> None:
    gpu = Gpu("a GPU", "8.9", max_batch_size=1, kv_cache_tokens=1024, kv_cache_free_gpu_mem_fraction=0.5)
    small = engine_memory(PHI_3_MINI, FORMATS["int4_awq"], gpu, max_num_tokens=512)
    large = engine_memory(PHI_3_MINI, FORMATS["int4_awq"], replace(gpu, kv_cache_tokens=4096), max_num_tokens=2048)
    assert small.total_bytes == sum(asdict(small).values())
    assert large.kv_cache_bytes - small.kv_cache_bytes == 3072 * 384 * 1024
    assert large.weights_bytes == small.weights_bytes
    assert large.activations_bytes - small.activations_bytes == 1536 * (5 * 3072 + 3 * 8192) * 2


def test_the_shape_is_known_before_the_download_and_read_after_it(place: Checkout) -> None:
    assert shape_of(settings.model("phi-3-mini")) == PHI_3_MINI
    assert shape_of(settings.model("phi-3-mini-tuned")) is None
    place.finished("awq", {"config.json": json.dumps({**asdict(GROUPED), "model_type": "phi3"})})
    assert shape_of(place.model) == GROUPED


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"num_hidden_layers": null}'])
def test_a_config_of_another_kind_tells_no_shape(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert read_shape(tmp_path / "config.json") is None
