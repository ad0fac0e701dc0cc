"""The order of 4-bit weights in which TensorRT-LLM's mixed-precision GEMM of SM 80 to 89 reads them.

`trtllm-build` makes this order itself from a W4A16_AWQ checkpoint. A W4A16_GPTQ checkpoint is loaded as it lies, so there the weights
must have it already. Its source describes four steps, on the nibbles of a layer with K inputs (rows) and N outputs (columns):

    1. in each block of 32 rows, take rows 0 1 8 9 16 17 24 25  2 3 10 11 18 19 26 27  4 5 ...  6 7 ... 30 31
    2. transpose, so that the rows of a column lie one after another, the even one in the low nibble
    3. cut into tiles of 64 rows, and let the tiles of four neighbouring columns follow each other
    4. add 8, and in each word of eight nibbles take 0 2 4 6 1 3 5 7

After step 4 a nibble is AutoAWQ's unsigned value again. Steps 1 and 4 together turn each block of 32 rows, seen as four rows of eight, on
its side: 0 8 16 24  1 9 17 25  2 10 ... So the whole is one transposition, and is done as one here. SM 90 has no step 3, hence `SMS`; to
add a class of GPUs, add a function for its order.
"""

import numpy as np
from numpy.typing import NDArray

SMS = (80, 89)
"""The lowest and the highest compute capability that read this order, as in SM 86: the RTX 3090 and the A10G. The L4 is SM 89."""
_TILE_ROWS = 64
_TILE_COLUMNS = 4


def interleave(q: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Unsigned 4-bit values, uint8 [K, N] -> fp16 [K, N/4]: no numbers, but four of them to each fp16, which is how the file declares them.

    K is a multiple of 64 and N of 4, which groups of 128 ensure.
    """
    k, n = q.shape
    # Axes: tile, half of its 64 rows, row of eight, one of the eight, columns.
    rows = q.reshape(k // _TILE_ROWS, 2, 4, 8, n)
    pairs = rows[:, :, 0::2] | rows[:, :, 1::2] << 4  # what shares a byte: rows 8 apart
    tiles = pairs.reshape(k // _TILE_ROWS, 2, 2, 8, n // _TILE_COLUMNS, _TILE_COLUMNS)
    in_order = np.ascontiguousarray(tiles.transpose(4, 0, 5, 1, 3, 2))
    return in_order.reshape(k, n // 2).view(np.float16)
