"""The model `tensorrt_llm` called as TensorRT-LLM's own clients call it: their tensors, their shapes, unary and as a stream."""

import queue
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from build.serve import Server

Arrays = dict[str, npt.NDArray[Any]]
PATIENCE_S = 60.0


def tensors(arrays: Arrays) -> list[InferInput]:
    """The arrays as inputs."""
    inputs = []
    for name, value in arrays.items():
        tensor = InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    return inputs


def to_generate(ids: list[int], n_new: int, **more: npt.NDArray[Any]) -> Arrays:
    """The inputs of a request to continue `ids` by `n_new` tokens."""
    return {
        "input_ids": np.array([ids], dtype=np.int32),
        "input_lengths": np.array([[len(ids)]], dtype=np.int32),
        "request_output_len": np.array([[n_new]], dtype=np.int32),
        **more,
    }


STOP: Arrays = {**to_generate([0], 0), "input_lengths": np.zeros((1, 1), np.int32), "stop": np.array([[True]])}
"""The request that NVIDIA's client sends to stop the one of the same id."""


def outputs_of(result: Any) -> Arrays:
    """All outputs of a response."""
    return {tensor.name: result.as_numpy(tensor.name) for tensor in result.get_response().outputs}


def infer(server: Server, outputs: list[str] | None, model: str = "tensorrt_llm", /, **arrays: npt.NDArray[Any]) -> Arrays:
    """Ask for the named outputs, or name none, and return what came."""
    named = None if outputs is None else [InferRequestedOutput(name) for name in outputs]
    with InferenceServerClient(server.url) as triton:
        result = triton.infer(model, tensors(arrays), outputs=named, request_id="7")
        assert result.get_response().id == "7"
        return outputs_of(result)


def generate(server: Server, ids: list[int], n_new: int, **more: npt.NDArray[Any]) -> Arrays:
    """Continue `ids` and return everything that came."""
    return infer(server, None, **to_generate(ids, n_new, **more))


class Pending:
    """A request that is under way."""

    def __init__(self, triton: InferenceServerClient, arrays: Arrays, request_id: str, model: str = "tensorrt_llm") -> None:
        self._future: Future[Arrays] = Future()
        self.call = triton.async_infer(model, tensors(arrays), self._done, request_id=request_id)

    def _done(self, result: Any, error: InferenceServerException | None) -> None:
        if error is None:
            self._future.set_result(outputs_of(result))
        else:
            self._future.set_exception(error)

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._future.done()

    def outputs(self) -> Arrays:
        """Wait for the answer. Raises what the server says."""
        return self._future.result(PATIENCE_S)


class Stream:
    """A stream as NVIDIA's clients open it; responses of all requests come in one queue."""

    def __init__(self, triton: InferenceServerClient) -> None:
        self._triton = triton
        self._queue: queue.Queue[tuple[Any, InferenceServerException | None]] = queue.Queue()

    def start(self) -> None:
        self._triton.start_stream(lambda result, error: self._queue.put((result, error)))

    def send(self, model: str, arrays: Arrays, request_id: str, **options: Any) -> None:
        self._triton.async_stream_infer(model, tensors(arrays), request_id=request_id, **options)

    def next(self) -> tuple[str, Arrays, bool]:
        """Request id, outputs and whether it was the last response. Raises what the server says."""
        result, error = self._queue.get(timeout=PATIENCE_S)
        if error is not None:
            raise error
        response = result.get_response()
        return response.id, outputs_of(result), response.parameters["triton_final_response"].bool_param

    def rest(self, request_id: str) -> list[Arrays]:
        """Outputs of all responses to a request, up to the last; there must be no others between."""
        found = []
        while True:
            id_, arrays, final = self.next()
            assert id_ == request_id
            found.append(arrays)
            if final:
                return found


@contextmanager
def stream(server: Server) -> Iterator[Stream]:
    """A stream, closed at the end."""
    with InferenceServerClient(server.url) as triton:
        opened = Stream(triton)
        opened.start()
        yield opened
        triton.stop_stream()
