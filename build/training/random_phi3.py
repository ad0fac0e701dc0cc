"""A checkpoint of Phi-3-mini's shape with random weights: `python -m build.training.random_phi3 OUT_DIR`.

Time and memory of the stages do not depend on what the weights are, so they can be measured where Phi-3's cannot be had:

    python -m build.training.random_phi3 /tmp/random
    doit model=phi-3-mini source=/tmp/random download quantize convert

The tokenizer is the embedded model's; what such a model says is noise.
"""

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import Phi3Config, Phi3ForCausalLM

from build import settings
from build.model_size import PHI_3_MINI

BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def write(out: Path, shape: dict[str, int]) -> None:
    """Make the checkpoint, float16, in a folder that is made if need be: 7.6 GB at Phi-3-mini's shape."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    config = Phi3Config(**shape, max_position_embeddings=4096, original_max_position_embeddings=4096, pad_token_id=0, eos_token_id=0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        network = Phi3ForCausalLM(config)
    network.half().save_pretrained(out)
    for name in BESIDE:
        shutil.copyfile(settings.model("pika-tiny").folder / "hf" / name, out / name)


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description="Write a checkpoint of Phi-3-mini's shape with random weights.")
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    write(parser.parse_args().out, asdict(PHI_3_MINI))


if __name__ == "__main__":
    main()
