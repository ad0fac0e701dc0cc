"""The embedded model in layout=gptq: the weights that the kernel reads are those that `test_three_ways` sees tag like the CPU engine."""

from pathlib import Path

import pytest

from build.convert import convert
from build.trtllm_layout import LAYOUTS
from tests.e2e.conftest import MODEL
from tests.support import dequantize

pytestmark = pytest.mark.e2e


def test_the_kernel_reads_the_same_weights_from_either_layout(repository: Path, tmp_path: Path) -> None:
    for name, layout in LAYOUTS.items():
        convert(MODEL.folder / "awq", tmp_path / name, layout=layout)
    awq, gptq = dequantize.from_trtllm(tmp_path / "awq"), dequantize.from_trtllm(tmp_path / "gptq")
    assert awq.keys() == gptq.keys()
    assert [name for name, weight in awq.items() if not weight.equal(gptq[name])] == []
