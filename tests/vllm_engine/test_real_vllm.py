"""vLLM itself under the real tritonserver, against the network computed by transformers. Run where PIKA_VLLM_PYTHON names a Python that has
vLLM 0.24, nvidia-pytriton and tritonclient; docs/vllm_target.md says how one is made for a machine without a GPU.

The weights are the embedded model's before quantization, because vLLM's kernels for AWQ need a GPU or AVX-512. It computes in float16.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Phi3ForCausalLM
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from build import ROOT, manifest, repository, settings
from one_pass import Dialogue, Prompt, Task, TextCodec
from tests.support.engine_client import Pending, generate, infer, outputs_of, tensors, to_generate

PYTHON = os.environ.get("PIKA_VLLM_PYTHON")
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(PYTHON is None, reason="PIKA_VLLM_PYTHON names no Python that has vLLM")]
MODEL = settings.model("pika-tiny")
HF = MODEL.folder / "hf"
HALF = 0.1
"""Logits of some 36 have steps of 0.03 in float16; those of another prompt are several units away."""
LINES = ["Trains are so much fun!", "Đúng rồi, cậu giỏi lắm!", "Chào cậu!", "Oh no, I am so sorry.", "Wow!"]
TAG = {"return_generation_logits": np.array([[True]]), "return_perf_metrics": np.array([[True]])}


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    prompt = Prompt(Task.load(MODEL.task_file), TextCodec.load(HF / "tokenizer.json"), settings.target("vllm").tokens_per_block)
    return [prompt.encode(Dialogue("I like trains", line)) for line in LINES]


@pytest.fixture(scope="module")
def network() -> Phi3ForCausalLM:
    return Phi3ForCausalLM.from_pretrained(HF, dtype=torch.float32, local_files_only=True).eval()


def expected(network: Phi3ForCausalLM, ids: list[int]) -> Any:
    with torch.no_grad():
        return network(torch.tensor([ids])).logits[0, -1].numpy()


def continued(network: Phi3ForCausalLM, ids: list[int], n_new: int) -> list[int]:
    new: list[int] = []
    for _ in range(n_new):
        new.append(int(expected(network, ids + new).argmax()))
    return new


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    repository.assemble(MODEL, settings.target("vllm"), "codes")
    copy, log = tmp_path_factory.mktemp("vllm") / "repository", tmp_path_factory.mktemp("log") / "serve.log"
    shutil.copytree(MODEL.folder / "triton-vllm", copy, ignore=shutil.ignore_patterns(manifest.NAME, "awq"))
    weights = shutil.copytree(HF, copy / "tensorrt_llm" / "1" / "awq", ignore=shutil.ignore_patterns(manifest.NAME, "config.json"))
    (weights / "config.json").write_text(json.dumps({**json.loads((HF / "config.json").read_text()), "dtype": "float16"}))
    config = copy / "tensorrt_llm" / "config.pbtxt"
    config.write_text(config.read_text().replace('"0.4"', '"0.1"'))
    manifest.seal(copy, "model_repository", {}, {}, [str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()])
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "VLLM_CPU_KVCACHE_SPACE": "1"}
    line = [str(PYTHON), "-m", "tests.support.vllm_server", str(copy), str(log)]
    with subprocess.Popen(line, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, log.read_text()[-4000:]
        yield SimpleNamespace(url=url)
        process.communicate()


def test_logits_are_the_networks_own_and_the_prefix_is_reused(server: Any, network: Phi3ForCausalLM, prompts: list[list[int]]) -> None:
    for ids in prompts:
        found = generate(server, ids, 1, **TAG)
        np.testing.assert_allclose(found["generation_logits"][0, 0, 0], expected(network, ids), atol=HALF)
        assert found["kv_cache_reused_blocks"].item() >= 11


def test_requests_that_are_in_flight_together_get_each_its_own(server: Any, network: Phi3ForCausalLM, prompts: list[list[int]]) -> None:
    with InferenceServerClient(server.url) as triton:
        long = Pending(triton, to_generate(prompts[0], 60), "long")
        tags = [Pending(triton, to_generate(ids, 1, **TAG), str(i)) for i, ids in enumerate(prompts * 6)]
        for ids, tag in zip(prompts * 6, tags, strict=True):
            np.testing.assert_allclose(tag.outputs()["generation_logits"][0, 0, 0], expected(network, ids), atol=HALF)
        assert long.outputs()["sequence_length"].item() == len(prompts[0]) + 60


def test_answers_are_the_networks_and_end_as_tensorrt_llm_ends_them(
    server: Any, network: Phi3ForCausalLM, prompts: list[list[int]]
) -> None:
    alone = {"exclude_input_in_output": np.array([[True]])}
    for ids in prompts[:2]:
        tokens = continued(network, ids, 6)
        assert generate(server, ids, 6, **alone)["output_ids"][0, 0].tolist() == tokens
        end = np.array([[tokens[2]]], dtype=np.int32)
        before = tokens[: tokens.index(tokens[2])]
        assert generate(server, ids, 6, end_id=end, **alone)["output_ids"][0, 0].tolist() == before
        stop = np.array([[tokens[:2], [2, -1]]], dtype=np.int32)
        assert generate(server, ids, 6, stop_words_list=stop, **alone)["output_ids"][0, 0].tolist() == tokens[:2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("return_context_logits", np.array([[True]])),
        ("return_log_probs", np.array([[True]])),
        ("bad_words_list", np.array([[[5], [1]]], dtype=np.int32)),
        ("embedding_bias", np.array([[0.0, 9.0]], dtype=np.float32)),
        ("presence_penalty", np.array([[1.0]], dtype=np.float32)),
        ("frequency_penalty", np.array([[1.0]], dtype=np.float32)),
        ("return_generation_logits", np.array([[True]])),
    ],
)
def test_what_is_not_served_is_refused_by_name(server: Any, prompts: list[list[int]], name: str, value: Any) -> None:
    with pytest.raises(InferenceServerException, match=f"^.*{name} is .*served by target vllm") as caught:
        generate(server, prompts[0], 2, **{name: value})
    assert "INVALID_ARGUMENT" in str(caught.value.status())


def test_a_random_answer_is_the_same_for_the_same_seed(server: Any, prompts: list[list[int]]) -> None:
    def drawn(seed: int) -> list[int]:
        how = {"temperature": np.array([[2.0]], dtype=np.float32), "runtime_top_k": np.array([[50]], dtype=np.int32)}
        arrays = to_generate(prompts[0], 12, seed=np.array([[seed]], dtype=np.uint64), **how)
        tokens: list[int] = infer(server, ["output_ids", "sequence_length"], **arrays)["output_ids"][0, 0].tolist()
        return tokens

    assert drawn(7) == drawn(7)
    assert len({tuple(drawn(seed)) for seed in (1, 2, 2**64 - 1)}) > 1


def test_a_cancelled_request_makes_room(server: Any, prompts: list[list[int]]) -> None:
    with InferenceServerClient(server.url) as triton:
        calls = [Pending(triton, to_generate(prompts[0], 600), str(i)).call for i in range(16)]
        for call in calls:
            call.cancel()
        found = outputs_of(triton.infer("tensorrt_llm", tensors(to_generate(prompts[1], 1, **TAG))))
        assert np.isfinite(found["generation_logits"]).all()
