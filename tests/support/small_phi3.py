"""A Phi-3 checkpoint of random weights, small enough to be loaded in a moment, in float16 as checkpoints are."""

from pathlib import Path

import torch
from transformers import Phi3Config, Phi3ForCausalLM

from tests.support import tokenizers_for_tests


def write(folder: Path, kind: str) -> None:
    """Write config, weights and the tokenizer of that kind; like Phi-3-mini it has a sliding window that no prompt fills."""
    folder.mkdir(parents=True, exist_ok=True)
    config = Phi3Config(
        vocab_size=tokenizers_for_tests.write(folder, kind),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        sliding_window=2047,
        initializer_range=0.3,  # so that different dialogues get clearly different answers
        pad_token_id=0,
    )
    torch.manual_seed(7)
    Phi3ForCausalLM(config).to(torch.float16).save_pretrained(folder)
