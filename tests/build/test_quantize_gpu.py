"""Quantizing on a GPU: the one that was chosen, what it took of its memory, and a message if that was not enough.

No GPU is needed: CUDA's own answers are put in its place. `doit model=phi-3-mini quantize` on a machine with a GPU shows the rest.
"""

import os
from pathlib import Path

import pytest
import torch

from build import manifest, quantize
from build.errors import SettingError
from build.settings import Quantization
from tests.support import tokenizers_for_tests
from tests.support.checkout import Checkout

FULL = "CUDA out of memory. Tried to allocate 96.00 MiB"


@pytest.fixture
def ready(place: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout whose model can be calibrated, and an environment that the stage may change."""
    place.finished("hf", {"tokenizer.json": tokenizers_for_tests.tokenizer_json("sentence_piece"), "config.json": "{}"})
    monkeypatch.setattr(quantize, "ROOT", place.root)
    monkeypatch.setattr(quantize, "check", lambda *_: None)
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if not name.startswith("CUDA")})
    return place


def writes(source: Path, out: Path, data: list[list[int]], settings: Quantization) -> None:
    (out / "model.safetensors").write_text("quantized")


def is_full(source: Path, out: Path, data: list[list[int]], settings: Quantization) -> None:
    raise torch.OutOfMemoryError(FULL)


def test_the_chosen_gpu_is_the_only_one_that_is_seen(ready: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "_run_autoawq", writes)
    quantize.quantize(ready.model, ready.target, gpu_index=2)
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"]) == ("2", "PCI_BUS_ID")


@pytest.mark.parametrize("own", ["", "1", "GPU-8a1b"])
def test_a_choice_made_in_the_environment_stays(ready: Checkout, monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.setattr(quantize, "_run_autoawq", writes)
    os.environ["CUDA_VISIBLE_DEVICES"] = own
    quantize.quantize(ready.model, ready.target, gpu_index=2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == own


@pytest.mark.parametrize(("peak_bytes", "told"), [(0, None), (8_123_000_000, "and 8123 MB of the GPU's")])
def test_time_and_memory_are_printed_and_kept(
    ready: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], peak_bytes: int, told: str | None
) -> None:
    monkeypatch.setattr(quantize, "_run_autoawq", writes)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: peak_bytes)
    quantize.quantize(ready.model, ready.target)
    made = manifest.read(ready.model.folder / "awq")
    assert made.facts["peak_gpu_bytes"] == (peak_bytes or None)
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{made.duration_s:.0f} s, peak {made.facts['peak_rss_bytes'] / 1e6:.0f} MB of memory" in last
    assert last.endswith(told or "MB of memory")


def test_a_gpu_that_is_too_full_is_named_with_two_ways_out(ready: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "_run_autoawq", is_full)
    with pytest.raises(SettingError) as caught:
        quantize.quantize(ready.model, ready.target, gpu_index=1)
    assert str(caught.value).startswith("GPU 1 has too little free memory to quantize small: choose another one with gpu=NUMBER, or ")
    assert "CUDA_VISIBLE_DEVICES= in the environment" in str(caught.value)
    assert str(caught.value).endswith(FULL)
    assert not (ready.model.folder / "awq").exists()
