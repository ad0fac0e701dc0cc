"""The warm-up of an engine: the first example of the task as a real request, which Triton sends before it says "ready".

It is what the tagger sends, so that the first tag finds the prefix computed, and asks besides that the prefix be held in the KV cache
before everything else. TensorRT-LLM remembers the priority of a block until a request gives it another one, and the tagger's requests give
none: one such request is enough, if the KV cache has room for the prefix and all requests in flight. That was read in the source and has
not been seen in a running server yet. The CPU engine evicts nothing, and takes no notice of priorities.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from one_pass import Prompt

FOLDER = "warmup"
"""Where Triton looks for the data of a model's warm-up, beside its version folders."""
HIGHEST_PRIORITY = 100
_COUNT = 2
"""The first request computes the prefix, the second one finds it: the two are different work for the engine."""


def tensors(prompt: Prompt) -> dict[str, npt.NDArray[np.int32] | npt.NDArray[np.bool_]]:
    """The inputs of the request, without a batch dimension."""
    ids = prompt.encode(prompt.task.examples[0].dialogue)
    numbers = {
        "input_ids": ids,
        "input_lengths": [len(ids)],
        "request_output_len": [1],
        "end_id": [-1],
        "retention_token_range_starts": [0],
        "retention_token_range_ends": [len(prompt.prefix_ids)],
        "retention_token_range_priorities": [HIGHEST_PRIORITY],
    }
    return {
        **{name: np.array(values, dtype=np.int32) for name, values in numbers.items()},
        **{flag: np.array([True]) for flag in ("return_generation_logits", "return_perf_metrics")},
    }


def write(folder: Path, prompt: Prompt) -> str:
    """Write the data files, and return the field `model_warmup` for config.pbtxt."""
    folder.mkdir(parents=True)
    lines = []
    for name, tensor in tensors(prompt).items():
        (folder / name).write_bytes(tensor.tobytes())
        dtype = "TYPE_BOOL" if tensor.dtype == np.bool_ else "TYPE_INT32"
        value = f'{{ data_type: {dtype} dims: [ {tensor.size} ] input_data_file: "{name}" }}'
        lines.append(f'    inputs {{ key: "{name}" value: {value} }}')
    body = "\n".join(lines)
    return f'model_warmup [\n  {{\n    name: "a tag, its prefix held"\n    batch_size: 1\n    count: {_COUNT}\n{body}\n  }}\n]'
