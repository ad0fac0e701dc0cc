"""The embedded model's shape, how it is computed after the shared prefix, and how its files are written and read.

Phi-3's architecture at a size that tags within milliseconds on one CPU core. What AutoAWQ and the engines ask of the shape: in_features
multiples of 128, out_features multiples of 64, as many key-value heads as heads, an lm_head of its own.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import DynamicCache, Phi3Config, Phi3ForCausalLM

MAX_TOKENS = 1024

SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
"""Chosen by measurement: the largest that tags in time, see docs/embedded_model.md."""
TEACHER_SHAPE = SHAPE | {"intermediate_size": 768, "num_hidden_layers": 6}
"""The networks that the embedded one learns from; too slow to be served themselves."""


def config_fields(vocab_size: int, end_of_text_id: int, bos_id: int) -> dict[str, Any]:
    """The fields of config.json, written out: different versions of transformers would write different ones."""
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        **SHAPE,
        "vocab_size": vocab_size,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "max_position_embeddings": MAX_TOKENS,
        "original_max_position_embeddings": MAX_TOKENS,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "float16",
        "bos_token_id": bos_id,
        "eos_token_id": end_of_text_id,
        "pad_token_id": end_of_text_id,
    }


def build(fields: dict[str, Any], dropout: float) -> Phi3ForCausalLM:
    """A new network with random weights, in float32."""
    config = Phi3Config(**{**fields, "embd_pdrop": dropout, "resid_pdrop": dropout, "torch_dtype": "float32"})
    config._attn_implementation = "sdpa"
    return Phi3ForCausalLM(config)


def load(folder: Path, device: str) -> Phi3ForCausalLM:
    """The network of a checkpoint that `save` has written, in float32 and without dropout."""
    model = build(json.loads((folder / "config.json").read_text()), 0.0)
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()})
    return model.to(device).eval()


def thinned(teacher: Phi3ForCausalLM, fields: dict[str, Any], dropout: float) -> Phi3ForCausalLM:
    """A network of fewer and narrower layers that begins with a part of a larger one's weights.

    Layers are taken at even distances, the first and the last among them; of a layer's intermediate neurons those with the largest weights.
    Both have the same hidden size, heads and vocabulary.
    """
    pupil = build(fields, dropout)
    given = teacher.state_dict()
    n_layers, n_neurons, last = fields["num_hidden_layers"], fields["intermediate_size"], teacher.config.num_hidden_layers - 1
    source = {str(i): str(round(i * last / max(1, n_layers - 1))) for i in range(n_layers)}
    weights = {}
    for name in pupil.state_dict():
        parts = name.split(".")
        if "layers" in parts:
            at = parts.index("layers") + 1
            parts[at] = source[parts[at]]
        tensor = given[".".join(parts)]
        if "mlp" in parts:
            mlp = ".".join(parts[: parts.index("mlp") + 1])
            gate, up = given[f"{mlp}.gate_up_proj.weight"].chunk(2)
            size = gate.norm(dim=1) * up.norm(dim=1) * given[f"{mlp}.down_proj.weight"].norm(dim=0)
            kept = size.topk(n_neurons).indices.sort().values
            tensor = torch.cat([gate[kept], up[kept]]) if parts[-2] == "gate_up_proj" else tensor[:, kept]
        weights[name] = tensor
    pupil.load_state_dict(weights)
    return pupil


def after_prefix(model: Phi3ForCausalLM, prefix: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    """Last hidden states [B, T, hidden_size] of B rows that all follow one prefix [1, P], which is computed once."""
    cache = DynamicCache()
    model.model(input_ids=prefix, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(next(iter(inputs.values())).shape[0])
    hidden: torch.Tensor = model.model(**inputs, past_key_values=cache, use_cache=True).last_hidden_state
    return hidden


def save(weights: dict[str, torch.Tensor], fields: dict[str, Any], end_ids: list[int], folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors (float16)."""
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in weights.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    generation = {"bos_token_id": fields["bos_token_id"], "eos_token_id": end_ids, "pad_token_id": fields["pad_token_id"]}
    for name, content in (("config.json", fields), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
