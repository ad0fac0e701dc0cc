"""The model `tensorrt_llm` called as TensorRT-LLM's own clients call it."""

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import np_to_triton_dtype

from build.serve import Server


def infer(server: Server, outputs: list[str], **tensors: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.generic]]:
    inputs = []
    for name, value in tensors.items():
        tensor = InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    with InferenceServerClient(server.url) as triton:
        result = triton.infer("tensorrt_llm", inputs, outputs=[InferRequestedOutput(name) for name in outputs], request_id="7")
        assert result.get_response().id == "7"
        return {name: result.as_numpy(name) for name in outputs if result.as_numpy(name) is not None}


def generate(server: Server, ids: list[int], n_new: int, **more: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.generic]]:
    return infer(
        server,
        ["output_ids", "sequence_length", "generation_logits"],
        input_ids=np.array([ids], dtype=np.int32),
        input_lengths=np.array([[len(ids)]], dtype=np.int32),
        request_output_len=np.array([[n_new]], dtype=np.int32),
        **more,
    )
