"""Triton's Python backend as a model sees it, small enough to look into: requests, tensors, responses and senders."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

FINAL = 1


class Tensor:
    def __init__(self, name: str, array: npt.NDArray[Any]) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> npt.NDArray[Any]:
        return self._array


class TritonError:
    INTERNAL, INVALID_ARG, UNAVAILABLE, CANCELLED = "INTERNAL", "INVALID_ARG", "UNAVAILABLE", "CANCELLED"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class InferenceResponse:
    def __init__(self, tensors: list[Tensor] | None = None, error: TritonError | None = None) -> None:
        self.arrays = {tensor.name(): tensor.as_numpy() for tensor in tensors or []}
        self.error = error

    def has_error(self) -> bool:
        return self.error is not None


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    return Tensor(name, response.arrays[name]) if name in response.arrays else None


class InferenceRequest:
    """A request to another model, answered with `answer` as often as it is sent; `sent` has them all."""

    answer: ClassVar[InferenceResponse]
    sent: ClassVar[list["InferenceRequest"]] = []

    def __init__(self, model_name: str, requested_output_names: list[str], inputs: list[Tensor]) -> None:
        self.model_name, self.outputs = model_name, requested_output_names
        self.arrays = {tensor.name(): tensor.as_numpy() for tensor in inputs}

    def exec(self, decoupled: bool = False) -> Any:
        self.sent.append(self)
        return iter([self.answer]) if decoupled else self.answer


class Request:
    """A request and its sender; `on_send` is called with every response and its flags."""

    def __init__(
        self, arrays: dict[str, npt.NDArray[Any]], outputs: list[str], id_: str, on_send: Callable[[InferenceResponse, int], None]
    ):
        self._arrays, self._outputs, self._id, self._on_send = arrays, outputs, id_, on_send
        self.cancelled = False

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, array) for name, array in self._arrays.items()]

    def requested_output_names(self) -> list[str]:
        return self._outputs

    def request_id(self) -> str:
        return self._id

    def get_response_sender(self) -> "Request":
        return self

    def is_cancelled(self) -> bool:
        return self.cancelled

    def send(self, response: InferenceResponse, flags: int = 0) -> None:
        self._on_send(response, flags)


class Metric:
    """A metric that remembers what it was told, call by call."""

    def __init__(self, labels: dict[str, str], buckets: list[float] | None = None) -> None:
        self.labels, self.buckets = labels, buckets
        self.told: list[float] = []

    def increment(self, amount: float) -> None:
        self.told.append(amount)

    observe = increment


class MetricFamily:
    """A family, and all that there are by name since the module was loaded."""

    COUNTER, HISTOGRAM = "COUNTER", "HISTOGRAM"
    made: ClassVar[dict[str, "MetricFamily"]] = {}

    def __init__(self, name: str, description: str, kind: str) -> None:
        self.kind = kind
        self.metrics: list[Metric] = []
        self.made[name] = self

    def Metric(self, **arguments: Any) -> Metric:  # noqa: N802  the backend's own name
        self.metrics.append(Metric(**arguments))
        return self.metrics[-1]


def scalar(value: Any, dtype: Any = np.int32) -> npt.NDArray[Any]:
    return np.array([[value]], dtype=dtype)


@contextmanager
def loaded(path: Path) -> Iterator[ModuleType]:
    """The module of a Triton model, imported with this backend in place of Triton's."""
    backend = ModuleType("triton_python_backend_utils")
    backend.__dict__.update(
        Tensor=Tensor,
        TritonError=TritonError,
        InferenceResponse=InferenceResponse,
        MetricFamily=MetricFamily,
        InferenceRequest=InferenceRequest,
        get_output_tensor_by_name=get_output_tensor_by_name,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=FINAL,
    )
    MetricFamily.made.clear()
    InferenceRequest.sent.clear()
    before = sys.modules.get(backend.__name__)
    sys.modules[backend.__name__] = backend
    try:
        spec = spec_from_file_location("triton_model_under_test", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[backend.__name__]
        if before is not None:
            sys.modules[backend.__name__] = before
