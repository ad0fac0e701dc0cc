"""What TensorRT-LLM's kernel for small batches sees in weights that lie in the order of SM 80 to 89.

Written from the addresses that its threads compute, not from the steps that make the order, and it shares nothing with `build.mixed_gemm`.
A block of threads owns rows of the buffer, each of which holds four columns. Step t of a row is one load of 16 bytes, 32 nibbles, by one
thread. Names follow the kernel's own quantities (weightOnlyBatchedGemv: kernel.h for addresses, details.h for the mapper, and the
converter of interleaved 4-bit numbers).
"""

import numpy as np
from numpy.typing import NDArray

INTERLEAVE = 4
TILE_K = 64
STEP_K = 32
BIAS = 8


def mapper(i: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where, among the 32 numbers of a load, the one lies that is multiplied with activation i of the thread's 32."""
    number: NDArray[np.int64] = i % 2 + i % 8 // 2 * 8 + i // 8 * 2
    return number


def converted(words: NDArray[np.uint32]) -> NDArray[np.int8]:
    """Eight numbers for each word [...]: the converter takes pairs from bits 0 and 16, 4 and 20, 8 and 24, 12 and 28, and subtracts 8."""
    numbers = np.empty((*words.shape, 8), dtype=np.int8)
    for pair in range(4):
        for half in range(2):
            bits = words >> np.uint32(4 * pair + 16 * half) & np.uint32(15)
            numbers[..., 2 * pair + half] = bits.astype(np.int8) - BIAS
    return numbers


def read(buffer: bytes, k: int, n: int) -> NDArray[np.int8]:
    """The signed weights int8 [N, K] of a layer with K inputs and N outputs."""
    steps = np.arange(INTERLEAVE * k // STEP_K)
    column = steps // (TILE_K // STEP_K) % INTERLEAVE
    first_k = steps * STEP_K // (INTERLEAVE * TILE_K) * TILE_K + steps * STEP_K % TILE_K
    inputs = np.arange(STEP_K)
    weights = np.empty((n // INTERLEAVE, INTERLEAVE, k), dtype=np.int8)
    row_bytes = INTERLEAVE * k // 2
    for row in range(n // INTERLEAVE):
        loads = np.frombuffer(buffer, dtype="<u4", count=row_bytes // 4, offset=row * row_bytes).reshape(len(steps), 4)
        numbers = converted(loads).reshape(len(steps), STEP_K)
        weights[row, column[:, None], first_k[:, None] + inputs] = numbers[:, mapper(inputs)]
    return weights.reshape(n, k)
