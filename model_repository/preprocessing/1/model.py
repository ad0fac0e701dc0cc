"""Triton model `preprocessing`: text to token ids, with the tensors of NVIDIA's model of that name.

This file is the border with Triton; the work is in `text_inputs`. Images, videos and text for a second decoder are refused: the models
served here have neither.
"""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from text_inputs import TextInputs

NOT_SERVED = ("DECODER_QUERY", "IMAGE_BYTES", "IMAGE_URL", "VIDEO_BYTES", "PROMPT_TABLE_EXTRA_ID")


class TritonPythonModel:
    """Loaded by Triton's Python backend; the method names are the backend's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer that lies beside this file."""
        self._text = TextInputs(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        try:
            arrays = self._outputs(inputs)
        except ValueError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in arrays.items()])

    def _outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        for name in NOT_SERVED:
            if name in inputs and inputs[name].size and any(inputs[name].reshape(-1)):
                raise ValueError(f"{name} is not served: leave it out, this model takes text for one decoder")
        queries = _texts(inputs, "QUERY", 1)
        rows = len(queries)
        end_ids, pad_ids = (
            np.full((rows, 1), default, dtype=np.int32) if inputs.get(name) is None else inputs[name].reshape(rows, 1)
            for name, default in (("END_ID", self._text.end_id), ("PAD_ID", self._text.pad_id))
        )
        ids, lengths = self._text.prompts([query[0] for query in queries], pad_ids[:, 0].tolist())
        weights = inputs.get("EMBEDDING_BIAS_WEIGHTS", np.zeros((rows, 0), dtype=np.float32))
        return {
            "INPUT_ID": ids,
            "REQUEST_INPUT_LEN": lengths,
            "DECODER_INPUT_ID": pad_ids,
            "REQUEST_DECODER_INPUT_LEN": np.ones((rows, 1), dtype=np.int32),
            "BAD_WORDS_IDS": self._text.words(_texts(inputs, "BAD_WORDS_DICT", rows)),
            "STOP_WORDS_IDS": self._text.words(_texts(inputs, "STOP_WORDS_DICT", rows)),
            "EMBEDDING_BIAS": self._text.bias(_texts(inputs, "EMBEDDING_BIAS_WORDS", rows), weights),
            "REQUEST_OUTPUT_LEN": inputs["REQUEST_OUTPUT_LEN"],
            "OUT_END_ID": end_ids,
            "OUT_PAD_ID": pad_ids,
        }


def _texts(inputs: dict[str, Any], name: str, rows: int) -> list[list[str]]:
    """The texts of each row; `rows` empty rows if the tensor was not sent."""
    if name not in inputs:
        return [[]] * rows
    try:
        return [[raw.decode("utf-8") for raw in row] for row in inputs[name].tolist()]
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not valid UTF-8") from None
