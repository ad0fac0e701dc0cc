from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build import health, settings
from build.settings import Model, Quantization, Target
from tests.support.checkout import Checkout


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout of its own for stages to work in, with a model of which nothing has been made yet."""
    monkeypatch.setattr(settings, "CHECKPOINTS", tmp_path / "checkpoints")
    for module in ("download", "engine", "repository"):
        monkeypatch.setattr(f"build.{module}.ROOT", tmp_path)
    quantization = Quantization(calibration_samples=1, seed=0, search_clipping=False, duo_scaling=True)
    model = Model(name="small", about="", task="pika_mood", quantize=quantization, source="checkpoints/small/hf")
    model.folder.mkdir(parents=True)
    return Checkout(tmp_path, model, Target(name="cpu", about="", tokens_per_block=16, intra_op_threads=3))


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each tag that a server is asked for; all of them come."""
    asked = list[int]()

    @contextmanager
    def probing(*_: object) -> Iterator[Callable[[], None]]:
        yield lambda: asked.append(1)

    monkeypatch.setattr(health, "probing", probing)
    return asked
