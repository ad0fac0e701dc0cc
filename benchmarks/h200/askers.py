"""The three things that are asked: our tagger, the engine below it, and an OpenAI-compatible server that writes a JSON answer's length."""

import http.client
import json
import math
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from benchmarks.h200.load import Item
from pika_tagger import TaggerClient

PATIENCE_S = 60.0


@dataclass(frozen=True)
class TagAsker:
    """A tag, through our client: what a robot sees."""

    url: str

    def open(self) -> AbstractContextManager[TaggerClient]:
        """As `load.Asker` says."""
        return TaggerClient(self.url, budget_ms=math.inf, timeout_s=PATIENCE_S, on_failure="raise")

    def ask(self, connection: TaggerClient, item: Item) -> None:
        """As `load.Asker` says."""
        connection.tag(user_last_message="", pika_response=item.pika_response)


@dataclass(frozen=True)
class EngineAsker:
    """The logits of one token from `tensorrt_llm`, without the tagger: what the tagger sees, and a hop over gRPC."""

    url: str

    def open(self) -> AbstractContextManager[InferenceServerClient]:
        """As `load.Asker` says."""
        return closing(InferenceServerClient(self.url))

    def ask(self, connection: InferenceServerClient, item: Item) -> None:
        """As `load.Asker` says."""
        numbers = {"input_ids": [item.ids], "input_lengths": [[len(item.ids)]], "request_output_len": [[1]]}
        inputs = []
        for name, array in [(name, np.array(values, dtype=np.int32)) for name, values in numbers.items()]:
            inputs.append(InferInput(name, array.shape, "INT32"))
            inputs[-1].set_data_from_numpy(array)
        inputs.append(InferInput("return_generation_logits", (1, 1), "BOOL"))
        inputs[-1].set_data_from_numpy(np.array([[True]]))
        outputs = [InferRequestedOutput(name) for name in ("output_ids", "sequence_length", "generation_logits")]
        result = connection.infer("tensorrt_llm", inputs, outputs=outputs, client_timeout=PATIENCE_S)
        if not np.isfinite(result.as_numpy("generation_logits")).all():
            raise RuntimeError("the engine gave logits that are not finite")


@dataclass(frozen=True)
class CompletionAsker:
    """So many tokens from `/v1/completions`, never fewer; the prompt goes as token ids, so that both servers compute the same."""

    port: int
    model: str
    n_tokens: int

    def open(self) -> AbstractContextManager[http.client.HTTPConnection]:
        """As `load.Asker` says."""
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S))

    def ask(self, connection: http.client.HTTPConnection, item: Item) -> None:
        """As `load.Asker` says."""
        asked: dict[str, Any] = {"model": self.model, "prompt": item.ids, "temperature": 0}
        body = json.dumps({**asked, "max_tokens": self.n_tokens, "ignore_eos": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200 or json.loads(answer)["usage"]["completion_tokens"] != self.n_tokens:
            raise RuntimeError(f"status {response.status}, or not {self.n_tokens} tokens, from the server on port {self.port}")
