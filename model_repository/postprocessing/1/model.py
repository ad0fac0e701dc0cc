"""Triton model `postprocessing`: token ids to text, with the tensors of NVIDIA's model of that name.

Special tokens are left out of the text, and so are ids that the vocabulary has not. As upstream, OUTPUT has one dimension: a text for each
row and beam. Streamed tokens are decoded one by one, so a character of several tokens comes out whole only where they come together.
"""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer that lies beside this file."""
        self._tokenizer = Tokenizer.from_file(str(Path(args["model_repository"]) / args["model_version"] / "tokenizer.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
        if tokens.shape[:2] != lengths.shape:
            message = f"TOKENS_BATCH is {list(tokens.shape)} and SEQUENCE_LENGTH {list(lengths.shape)}: the first two dimensions must agree"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        beams = tokens.reshape(-1, tokens.shape[-1]) if tokens.size else np.zeros((lengths.size, 0), dtype=np.int32)
        texts = [self._decode(ids[:length].tolist()).encode() for ids, length in zip(beams, lengths.reshape(-1), strict=True)]
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", np.array(texts, dtype=np.object_))])

    def _decode(self, ids: list[int]) -> str:
        size = self._tokenizer.get_vocab_size()
        text: str = self._tokenizer.decode([token for token in ids if 0 <= token < size], skip_special_tokens=True)
        return text
