"""The safetensors container, read and written one piece of one tensor at a time.

A file is the length of its header as an 8-byte little-endian integer, the header as JSON padded with spaces to a multiple of 8 bytes, and
the tensors back to back in the header's order, each in C order and little-endian. `safetensors.numpy.save_file` wants every tensor in
memory at once and writes the bytes of a transposed array as they lie, so that shapes look right and values are misplaced; the writer here
does neither.

This module knows the container and nothing of any model. Dtypes go by safetensors' names ("F16", "I8", ...).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from build.errors import CheckpointError

Array = NDArray[Any]

BLOCK_BYTES = 1 << 24
_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "I8": np.dtype("i1")}


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of a tensor in a file."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor. KeyError for dtypes that this module does not write."""
        return prod(self.shape) * _NUMPY_DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def read_specs(path: Path) -> dict[str, TensorSpec]:
    """What a file holds, from its header alone.

    Raises:
        CheckpointError: the file is missing, or is not whole.
    """
    try:
        with safe_open(path, framework="numpy") as source:
            slices = {name: source.get_slice(name) for name in source.keys()}  # noqa: SIM118 (not a dict)
            return {name: TensorSpec(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: copy or quantize the checkpoint again") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}): copy or quantize the checkpoint again") from error


def read_tensor(path: Path, name: str) -> Array:
    """One whole tensor, copied into memory. The file stays mapped only for as long as this takes."""
    with safe_open(path, framework="numpy") as source:
        tensor: Array = source.get_tensor(name)
    return tensor


def read_blocks(path: Path, name: str) -> Iterator[Array]:
    """A tensor in blocks of rows of about BLOCK_BYTES, in order."""
    with safe_open(path, framework="numpy") as source:
        rows = source.get_slice(name)
        n_rows = rows.get_shape()[0]
        row_bytes = rows[0:1].nbytes
        step = max(1, BLOCK_BYTES // row_bytes)
        for start in range(0, n_rows, step):
            yield rows[start : min(start + step, n_rows)]


class StreamWriter:
    """A context manager that writes a file whose tensors are all known by name, shape and dtype beforehand.

    ValueError means that the caller did not write what it announced: a defect of the program, not of its input.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec]) -> None:
        self._path = path
        self._specs = specs
        self._outstanding = iter(specs)

    def __enter__(self) -> "StreamWriter":
        header: dict[str, object] = {}
        start = 0
        for name, spec in self._specs.items():
            end = start + spec.size_bytes
            header[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [start, end]}
            start = end
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        self._stream = self._path.open("wb")
        self._stream.write(len(encoded).to_bytes(8, "little"))
        self._stream.write(encoded)
        return self

    def write(self, name: str, blocks: Iterable[Array]) -> None:
        """Write the next tensor, given as consecutive blocks of rows.

        Raises:
            ValueError: it is not the next one, or the blocks do not make up the announced shape and dtype.
        """
        if next(self._outstanding, None) != name:
            raise ValueError(f"{name} is written out of order")
        spec = self._specs[name]
        n_rows = 0
        for block in blocks:
            if block.dtype != _NUMPY_DTYPES[spec.dtype] or block.shape[1:] != spec.shape[1:]:
                raise ValueError(f"{name} is announced as {spec}, a block is {block.dtype} {list(block.shape)}")
            self._stream.write(np.ascontiguousarray(block).data)
            n_rows += block.shape[0]
        if n_rows != spec.shape[0]:
            raise ValueError(f"{name} is announced as {spec}, {n_rows} rows were written")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
        if error is None and (left := next(self._outstanding, None)) is not None:
            raise ValueError(f"{left} was never written")
