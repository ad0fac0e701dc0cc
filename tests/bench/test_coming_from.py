"""The table of flags: every flag that users asked about is there, and what it says about our presets is true."""

import re

import pytest

from build import ROOT, settings, trtllm_build

VLLM, LMDEPLOY = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8").split("## vLLM")[1].split("## LMDeploy")
L4, RTX3090, PHI3 = settings.target("l4"), settings.target("rtx3090"), settings.model("phi-3-mini")


def row(page: str, flag: str) -> list[str]:
    """What it does, where it is here, what is suggested."""
    (line,) = [line for line in page.splitlines() if re.match(rf"\| [^|]*`--{flag}`", line)]
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


@pytest.mark.parametrize(
    ("page", "flags"),
    [
        (
            VLLM,
            "gpu-memory-utilization max-model-len max-num-seqs max-num-batched-tokens enable-prefix-caching enable-chunked-prefill "
            "kv-cache-dtype dtype enforce-eager quantization tensor-parallel-size trust-remote-code host port disable-log-requests",
        ),
        (
            LMDEPLOY,
            "backend max-concurrent-requests session-len max-batch-size cache-max-entry-count cache-block-seq-len max-prefill-token-num "
            "quant-policy vision-max-batch-size log-level disable-fastapi-docs",
        ),
    ],
    ids=["vllm", "lmdeploy"],
)
def test_every_flag_says_what_it_does_where_it_is_here_and_what_to_give(page: str, flags: str) -> None:
    for flag in flags.split():
        assert [bool(cell) for cell in row(page, flag)] == [True] * 3, flag


def test_what_is_said_about_our_presets_is_true() -> None:
    l4, rtx3090 = trtllm_build.gpu_of(L4), trtllm_build.gpu_of(RTX3090)
    for flag, page in (("max-model-len", VLLM), ("session-len", LMDEPLOY)):
        assert row(page, flag)[2].startswith(str(PHI3.max_seq_len))
    assert f"{PHI3.max_seq_len} for Phi-3-mini" in row(VLLM, "max-model-len")[1]
    assert f"{l4.max_batch_size}, on the shared 3090 {rtx3090.max_batch_size}" in row(VLLM, "max-num-seqs")[1]
    assert L4.tokens_per_block == RTX3090.tokens_per_block == 32
    assert "`tokens_per_block`, 32" in row(LMDEPLOY, "cache-block-seq-len")[1]
    served = (ROOT / "model_repository" / "tensorrt_llm" / "trtllm" / "config.pbtxt").read_text(encoding="utf-8")
    for target in (L4, RTX3090):
        assert (
            f"`tagger_queue_size` of the target in `build/presets.toml`, {target.tagger_queue_size}:"
            in row(LMDEPLOY, "max-concurrent-requests")[1]
        )
    for key, value in (("enable_kv_cache_reuse", "true"), ("enable_chunked_context", "false")):
        assert f'"{key}" value: {{ string_value: "{value}" }}' in served
        assert f"`{key}`" in VLLM


def test_what_is_said_about_target_vllm_is_true() -> None:
    target = settings.target("vllm")
    assert target.vllm is not None
    for name, value in vars(target.vllm).items():
        assert row(VLLM, name.replace("_", "-"))[1].endswith(f"`target=vllm`: `{name}`, {value}")
    assert row(VLLM, "enable-prefix-caching")[1].endswith(
        f"`target=vllm`: always on; blocks of `tokens_per_block`, {target.tokens_per_block}"
    )
    engine = (ROOT / "model_repository" / "tensorrt_llm" / "vllm" / "1" / "vllm_engine.py").read_text(encoding="utf-8")
    assert "enable_prefix_caching=True" in engine
    (steps,) = re.findall(r"graphs for steps of up to (\d+) tokens", row(VLLM, "enforce-eager")[1])
    assert f"range(288, {int(steps) + 1}, 32)]" in engine
