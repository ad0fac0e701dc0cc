"""A checkpoint of Phi-3-mini's shape in AutoAWQ's layout, with random weights: `python -m benchmarks.h200.random_awq`.

It lies where `doit model=phi-3-mini quantize` would leave the real one, with a manifest, so that a repository can be assembled from it.
Time does not depend on what the weights are; what such a model says is noise. The tokenizer is the embedded model's: rows of lm_head beyond
its vocabulary are zero, so that every token that is generated can be decoded.
"""

import json
import shutil
import sys
from dataclasses import asdict

import numpy as np
from safetensors.numpy import save_file

from build import manifest, settings
from build.awq import SINGLE, expected_tensors
from build.awq_config import GROUP_SIZE, Phi3Config
from build.model_size import PHI_3_MINI

CONFIG = Phi3Config(**asdict(PHI_3_MINI), max_position_embeddings=4096, rms_norm_eps=1e-5, rope_theta=10000.0)
SCALE = 0.003
"""Of one step of 4 bits; with nibbles and zero points between 0 and 15 weights are then about 0.02, as in trained models."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def main() -> None:
    """Write it, 2.3 GB, unless there is a checkpoint already."""
    folder, embedded = settings.model("phi-3-mini").folder / "awq", settings.model("pika-tiny").folder
    if folder.exists():
        sys.exit(f"{folder} is there already: remove it first, if it is not worth keeping")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    tensors = {}
    for name, spec in expected_tensors(CONFIG).items():
        if spec.dtype == "I32":
            tensors[name] = rng.integers(-(2**31), 2**31, size=spec.shape, dtype=np.int32)
        elif name.endswith("scales"):
            tensors[name] = np.full(spec.shape, SCALE, dtype=np.float16)
        elif name.endswith("norm.weight"):
            tensors[name] = np.ones(spec.shape, dtype=np.float16)
        else:
            tensors[name] = (rng.standard_normal(spec.shape, dtype=np.float32) * 0.02).astype(np.float16)
    tokenizer = json.loads((embedded / "hf" / "tokenizer.json").read_text(encoding="utf-8"))
    tensors["lm_head.weight"][len(tokenizer["model"]["vocab"]) :] = 0
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_hf_config(CONFIG)))
    for file in TOKENIZER_FILES:
        shutil.copyfile(embedded / "hf" / file, folder / file)
    manifest.seal(folder, "quantize", {}, {}, [path.name for path in folder.iterdir()])


def _hf_config(config: Phi3Config) -> dict[str, object]:
    return {
        **vars(config),
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "hidden_act": "silu",
        "original_max_position_embeddings": config.max_position_embeddings,
        "rope_scaling": None,
        "sliding_window": 2047,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "torch_dtype": "float16",
        "quantization_config": {
            "quant_method": "awq",
            "bits": 4,
            "group_size": GROUP_SIZE,
            "zero_point": True,
            "version": "gemm",
            "modules_to_not_convert": None,
        },
    }


if __name__ == "__main__":
    main()
