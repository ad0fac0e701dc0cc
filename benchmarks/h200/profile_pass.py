"""What the GPU does during a pass: torch's profile of one tag at a time, vLLM in this process, without any Triton.

    python -m benchmarks.h200.profile_pass CHECKPOINT OUT.txt

CHECKPOINT is in AutoAWQ's layout, such as `random_awq` makes. Every pass finds its prefix in the KV cache. How long the GPU waits for the
processor is the median of a pass without the profiler, which is printed, less the sum of the profile.
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from build import ROOT

sys.path[:0] = [str(ROOT / "model_repository" / "tensorrt_llm" / kind / "1") for kind in ("vllm", "python")]

from engine_request import Request  # noqa: E402
from vllm_engine import EngineSettings, VllmEngine  # noqa: E402

PREFIX_TOKENS, NEW_TOKENS = 352, 60
SETTINGS = EngineSettings(block_size=32, max_model_len=1024, max_num_seqs=64, max_num_batched_tokens=2048, gpu_memory_utilization=0.3)
TIMED, PROFILED = 200, 20
PAUSE_S = 0.001


def main() -> None:
    """Load, time, profile, write."""
    parser = argparse.ArgumentParser(description="Profile the pass of a tag.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    engine = VllmEngine(given.checkpoint, SETTINGS)
    rng = random.Random(1)
    ids = range(10, engine.vocab_size)
    prefix = rng.choices(ids, k=PREFIX_TOKENS)

    def ask() -> float:
        request = Request(prefix + rng.choices(ids, k=NEW_TOKENS), 1, wants_logits=True)
        began = time.perf_counter()
        engine.begin(request)
        while not engine.idle:
            engine.step()
        took_ms = (time.perf_counter() - began) * 1000
        time.sleep(PAUSE_S)
        return took_ms

    times_ms = [ask() for _ in range(TIMED)]
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(PROFILED):
            ask()
    table = profiled.key_averages().table(sort_by="cuda_time_total", row_limit=40, max_name_column_width=70)
    median = f"{NEW_TOKENS} new tokens, {PREFIX_TOKENS} cached: median of {TIMED} passes {statistics.median(times_ms):.2f} ms"
    given.out.write_text(f"{median}\n\n{PROFILED} passes:\n{table}\n", encoding="utf-8")
    print(f"{median}; the profile of {PROFILED} more is {given.out}")
    engine.close()


if __name__ == "__main__":
    main()
