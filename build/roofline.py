"""How long a tag can take on a GPU that nobody has at hand: a roofline model, on paper.

A pass over the model takes as long as the slower of two things: reading what must be read (weights once, the KV cache of what came
before), or calculating (two operations per weight and new token, and attention). A strategy is a list of passes. Each is told twice:

- `FLOOR`: data-sheet bandwidth and FLOPS, and nothing else. No software can be faster.
- `expected`: 60 % of the bandwidth and 50 % of the FLOPS, which is an assumption (published 4-bit kernels reach 40 to 75 % of the bandwidth
  at batch 1), and besides what the software takes for every pass and every request. That is calculated from the one thing that was
  measured, `MEASURED`, by subtracting what the GPU should have needed. It was another engine (vLLM) on another host, and work of the host
  partly hides behind a slow GPU, so for TensorRT-LLM on an L4 or a 3090 it is meant as a careful guess.

Not in it: the tokenizer, Triton and the network, waiting behind other requests, other services on a shared GPU, clocks that fall under
load (an L4 has 72 W) or have to rise after a pause. Change an assumption here, then `python -m build.plan --write`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from build.gpu_specs import H200, GpuSpec
from build.model_size import FORMATS, PHI_3_MINI, Format, Shape

FIRST_FIELD_TOKENS = 5
"""Assumption: what `words` forces before its first answer; `{"celebrate": "` in Phi-3's tokenizer."""
SECOND_FIELD_TOKENS = 8
"""What `words` adds before its second answer; 8 with the embedded model's tokenizer."""
POSITIONS = 4096
"""The longest prompt that Phi-3-mini-4k takes."""
JSON_TOKENS = 18
"""An answer such as {"emotion_name": "proud", "celebrate": "yes"}, as it was measured."""


@dataclass(frozen=True)
class Workload:
    """One request: a prefix that lies in the KV cache and fills whole blocks, and a turn that has to be computed."""

    prefix_tokens: int = 512
    turn_tokens: int = 64
    tokens_per_block: int = 32


@dataclass(frozen=True)
class Pass:
    """One pass of the engine: `new` tokens are computed, `cached` ones are looked at."""

    new_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Efficiency:
    """What software makes of a GPU."""

    bandwidth: float
    compute: float
    pass_ms: float = 0.0
    request_ms: float = 0.0


FLOOR = Efficiency(bandwidth=1.0, compute=1.0)
ASSUMED = Efficiency(bandwidth=0.6, compute=0.5)
"""Of the GPU alone; `expected` adds the software."""


@dataclass(frozen=True)
class Measured:
    """Median times of requests that generate so many tokens, measured once.

    The turn's length was not noted; the workload's is taken for it. It hardly matters: on that GPU reading the weights takes about
    as long as computing 64 tokens.
    """

    gpu: GpuSpec
    format: Format
    shape: Shape
    workload: Workload
    ms_by_tokens: Mapping[int, float]


MEASURED = Measured(H200, FORMATS["int4_awq"], PHI_3_MINI, Workload(), {1: 6.0, JSON_TOKENS: 59.0, 50: 159.0})
"""vLLM, Phi-3-mini's shape with random AWQ weights, one request at a time, a cached prefix of 512 tokens."""

Requests = tuple[tuple[Pass, ...], ...]
"""What a strategy asks of the engine: passes by request."""


def generation(workload: Workload, tokens: int) -> Requests:
    """One request that generates so many tokens; the first comes out of the pass over the turn."""
    prompt = workload.prefix_tokens + workload.turn_tokens
    later = (Pass(1, prompt + done) for done in range(tokens - 1))
    return ((Pass(workload.turn_tokens, workload.prefix_tokens), *later),)


def strategies(workload: Workload) -> dict[str, Requests]:
    """What each strategy asks of the engine."""
    # The second request of `words` finds whole blocks in the cache only, so up to a block but one token is computed again.
    again = workload.tokens_per_block - 1
    asked = workload.turn_tokens + FIRST_FIELD_TOKENS
    return {
        "codes": generation(workload, 1),
        "words": (
            (Pass(asked, workload.prefix_tokens),),
            (Pass(again + SECOND_FIELD_TOKENS, workload.prefix_tokens + asked - again),),
        ),
        "json": generation(workload, JSON_TOKENS),
    }


def supports(gpu: GpuSpec, format: Format) -> bool:
    """Whether TensorRT-LLM can run the format there."""
    return not format.fp8_arithmetic or gpu.fp8_flops is not None


def pass_ms(gpu: GpuSpec, shape: Shape, format: Format, one: Pass, how: Efficiency, batch: int = 1) -> float:
    """How long one pass takes; with `batch` as many alike at once, which read the weights together and everything else each for itself."""
    linear_flops = gpu.fp8_flops if format.fp8_arithmetic and gpu.fp8_flops else gpu.fp16_flops
    context_tokens = one.new_tokens * (one.cached_tokens + (one.new_tokens + 1) / 2)
    attention = 4 * shape.num_hidden_layers * shape.hidden_size * context_tokens
    compute_s = 2 * shape.linear_parameters * one.new_tokens / linear_flops
    # Only the last token's logits are made; lm_head and attention stay in FP16 in every format.
    compute_s += (attention + 2 * shape.head_parameters) / gpu.fp16_flops
    read_bytes = format.linear_bytes(shape) + 2 * shape.head_parameters + batch * one.cached_tokens * shape.kv_bytes_per_token
    return 1000 * max(batch * compute_s / how.compute, read_bytes / gpu.bytes_per_s / how.bandwidth) + how.pass_ms


def requests_ms(gpu: GpuSpec, shape: Shape, format: Format, requests: Requests, how: Efficiency) -> float:
    """How long requests take, one after the other."""
    return sum(how.request_ms + sum(pass_ms(gpu, shape, format, one, how) for one in passes) for passes in requests)


def expected(measured: Measured = MEASURED) -> Efficiency:
    """`ASSUMED`, and what the software took in the measurement: calculated from one token and from a JSON; the third figure tests it."""

    def gpu_ms(tokens: int) -> float:
        return requests_ms(measured.gpu, measured.shape, measured.format, generation(measured.workload, tokens), ASSUMED)

    one_ms, json_ms = measured.ms_by_tokens[1], measured.ms_by_tokens[JSON_TOKENS]
    per_pass_ms = ((json_ms - one_ms) - (gpu_ms(JSON_TOKENS) - gpu_ms(1))) / (JSON_TOKENS - 1)
    return Efficiency(ASSUMED.bandwidth, ASSUMED.compute, per_pass_ms, one_ms - gpu_ms(1) - per_pass_ms)


def longest_turn(gpu: GpuSpec, shape: Shape, format: Format, workload: Workload, budget_ms: float, how: Efficiency) -> int:
    """The most tokens that a turn may have for `codes` to keep the budget, as far as the model's positions go; 0 if none may."""
    fits, too_long = 0, POSITIONS - workload.prefix_tokens + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        asked = generation(Workload(workload.prefix_tokens, middle, workload.tokens_per_block), 1)
        if requests_ms(gpu, shape, format, asked, how) <= budget_ms:
            fits = middle
        else:
            too_long = middle
    return fits
