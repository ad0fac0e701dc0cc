"""How fast GPUs are, by their makers' data sheets. Nothing here was measured.

A new GPU is a new row, and stands in `KNOWN`. FLOPS are dense tensor-core figures with fp32 accumulation. The A10G's are uncertain: it is
Amazon's variant of the A10, and lists give 62 to 70 TFLOPS.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuSpec:
    """One GPU on paper.

    Attributes:
        name: What it is called in tables.
        bytes_per_s: Memory bandwidth.
        fp16_flops: Dense FP16 operations per second.
        fp8_flops: The same in FP8; None where the GPU has none, which rules out TensorRT-LLM's W4A8 kernels as well.
    """

    name: str
    bytes_per_s: float
    fp16_flops: float
    fp8_flops: float | None = None


L4 = GpuSpec("L4", 300e9, 121e12, 242e12)
RTX_3090 = GpuSpec("RTX 3090", 936e9, 71e12)
A10G = GpuSpec("A10G", 600e9, 70e12)
H200 = GpuSpec("H200", 4800e9, 989e12, 1979e12)
KNOWN = (L4, RTX_3090, A10G, H200)
