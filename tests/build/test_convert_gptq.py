"""layout=gptq: the order of the weights, proven three ways, and the GPUs that it is for.

The proofs do not run the code backwards: positions worked out by hand, the four steps as TensorRT-LLM describes them, and a reader written
from the addresses of its kernel (`tests.support.mixed_gemm_kernel`).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from build import manifest
from build.convert import convert
from build.errors import CheckpointError, SettingError
from build.mixed_gemm import interleave
from build.trtllm_layout import AWQ, GPTQ, LAYOUTS, named, require_gpu
from tests.support import awq_checkpoints, dequantize, mixed_gemm_kernel

# Of Phi-3-mini: (inputs, outputs).
QKV, DENSE, FC, PROJ = (3072, 9216), (3072, 3072), (3072, 16384), (8192, 3072)
ROWS = (0, 1, 8, 9, 16, 17, 24, 25, 2, 3, 10, 11, 18, 19, 26, 27, 4, 5, 12, 13, 20, 21, 28, 29, 6, 7, 14, 15, 22, 23, 30, 31)


class Place(NamedTuple):
    """Input and output of a weight in a layer of 128 inputs and 8 outputs, and the byte and its half where it must lie."""

    k: int
    n: int
    byte: int
    high: bool


@pytest.mark.parametrize(
    "place",
    [
        Place(k=0, n=0, byte=0, high=False),
        Place(k=8, n=0, byte=0, high=True),
        Place(k=16, n=0, byte=1, high=False),
        Place(k=1, n=0, byte=2, high=False),
        Place(k=25, n=0, byte=3, high=True),
        Place(k=2, n=0, byte=4, high=False),
        Place(k=31, n=0, byte=15, high=True),
        Place(k=32, n=0, byte=16, high=False),
        Place(k=63, n=0, byte=31, high=True),
        Place(k=0, n=1, byte=32, high=False),
        Place(k=63, n=3, byte=127, high=True),
        Place(k=64, n=0, byte=128, high=False),
        Place(k=127, n=3, byte=255, high=True),
        Place(k=0, n=4, byte=256, high=False),
        Place(k=127, n=7, byte=511, high=True),
    ],
    ids=str,
)
def test_a_weight_lies_where_it_must(place: Place) -> None:
    q = np.zeros((128, 8), dtype=np.uint8)
    q[place.k, place.n] = 13
    lying = np.frombuffer(interleave(q).tobytes(), dtype=np.uint8)
    assert {i: int(byte) for i, byte in enumerate(lying) if byte} == {place.byte: 13 << 4 if place.high else 13}


def random_q(k: int, n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(k + n).integers(0, 16, size=(k, n), dtype=np.uint8)


def four_steps(q: NDArray[np.uint8]) -> bytes:
    """The order as TensorRT-LLM makes it from signed nibbles, one step after another, one nibble to each number."""
    k, n = q.shape
    signed = q.astype(np.int64) - 8
    permuted = np.concatenate([signed[block : block + 32][list(ROWS)] for block in range(0, k, 32)])
    columns = permuted.T
    tiles = [columns[n0 + c, k0 : k0 + 64] for n0 in range(0, n, 4) for k0 in range(0, k, 64) for c in range(4)]
    words = (np.concatenate(tiles) + 8).reshape(-1, 8)[:, [0, 2, 4, 6, 1, 3, 5, 7]]
    return bytes(int(low) + 16 * int(high) for low, high in words.reshape(-1, 2))


@pytest.mark.parametrize(("k", "n"), [(64, 4), (128, 128), (256, 384), (384, 128)])
def test_it_is_what_the_four_steps_make(k: int, n: int) -> None:
    q = random_q(k, n)
    assert interleave(q).tobytes() == four_steps(q)


@pytest.mark.parametrize(("k", "n"), [QKV, DENSE, FC, PROJ, (128, 384)])
def test_the_kernel_reads_every_weight_of_phi_3_mini(k: int, n: int) -> None:
    q = random_q(k, n)
    file_tensor = interleave(q)
    assert file_tensor.shape == (k, n // 4)
    assert file_tensor.dtype == np.float16
    seen = mixed_gemm_kernel.read(file_tensor.tobytes(), k, n)
    np.testing.assert_array_equal(seen.T + 8, q)


def test_the_kernel_does_not_see_the_weights_of_the_other_layout() -> None:
    """Nibbles that are not in its order are other weights: the reader would notice."""
    q = random_q(128, 384)
    plain = (q[0::2] | q[1::2] << 4).T.tobytes()
    assert np.mean(q == mixed_gemm_kernel.read(plain, 128, 384).T + 8) < 0.2


def test_both_layouts_mean_the_same_bit_for_bit(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "source", awq_checkpoints.Phi3Size(hidden=256, intermediate=384, kv_heads=2))
    for name, layout in LAYOUTS.items():
        convert(awq_dir, tmp_path / name, layout=layout)
    awq, gptq = dequantize.from_trtllm(tmp_path / "awq"), dequantize.from_trtllm(tmp_path / "gptq")
    assert awq.keys() == gptq.keys()
    for name, weight in awq.items():
        assert weight.equal(gptq[name]), name


def test_bits_that_are_no_numbers_survive_the_file(tmp_path: Path) -> None:
    """Some groups of four nibbles are NaN to a reader of fp16. They must come back with the very same bits."""
    q = random_q(128, 384)
    words = interleave(q)
    assert np.isnan(words).any()
    size = awq_checkpoints.Phi3Size(layers=1)
    tensors = awq_checkpoints.random_tensors(size)
    tensors["model.layers.0.self_attn.qkv_proj.qweight"] = awq_checkpoints.pack(q)
    convert(awq_checkpoints.write(tmp_path / "awq", awq_checkpoints.hf_config(size), tensors), tmp_path / "out", layout=GPTQ)
    with safe_open(tmp_path / "out" / "rank0.safetensors", framework="numpy") as file:
        assert file.get_tensor("transformer.layers.0.attention.qkv.weight").tobytes() == words.tobytes()


def test_a_layout_goes_by_its_name() -> None:
    assert (named("awq"), named("gptq")) == (AWQ, GPTQ)
    with pytest.raises(SettingError, match=r"^layout=gemv is not known: give one of awq, gptq$"):
        named("gemv")


@pytest.mark.parametrize("sm", [80, 86, 87, 89])
def test_a_gpu_of_the_class_is_accepted(tmp_path: Path, sm: int) -> None:
    made = convert(awq_checkpoints.write_random(tmp_path / "awq"), tmp_path / "out", layout=GPTQ)
    require_gpu(made, sm)


@pytest.mark.parametrize("sm", [75, 90, 100, 120])
def test_a_gpu_of_another_class_is_refused(tmp_path: Path, sm: int) -> None:
    convert(awq_checkpoints.write_random(tmp_path / "awq"), tmp_path / "out", layout=GPTQ)
    words = f"has layout=gptq, for GPUs of SM 80 to 89, and this GPU is SM {sm}: convert again with layout=awq"
    with pytest.raises(CheckpointError, match=words):
        require_gpu(manifest.read(tmp_path / "out"), sm)


@pytest.mark.parametrize("sm", [75, 86, 90, 120])
def test_layout_awq_is_for_every_gpu(tmp_path: Path, sm: int) -> None:
    require_gpu(convert(awq_checkpoints.write_random(tmp_path / "awq"), tmp_path / "out"), sm)
