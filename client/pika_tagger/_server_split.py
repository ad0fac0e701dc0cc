"""Where time goes inside the server: Triton's own statistics, before and after; and how to make the engine forget the prompt.

Tensors and fields are those of Triton's ModelStatistics and of the engine model `tensorrt_llm`.
"""

import math
import random
import struct
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from pika_tagger._client import TaggerClient
from pika_tagger._errors import TaggerError

TAGGER, ENGINE = "tagger", "tensorrt_llm"
_DEADLINE_S = 10.0
_PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
_UNRELATED_TOKENS = 32


@dataclass(frozen=True)
class Split:
    """Totals of one model since it was loaded: requests that succeeded, and nanoseconds by phase."""

    requests: int
    phases_ns: dict[str, int]

    def since(self, before: "Split") -> dict[str, float] | None:
        """Return mean milliseconds by phase, and the number of requests, between two moments; None if there was none."""
        requests = self.requests - before.requests
        if requests <= 0:
            return None
        means = {f"{phase}_ms": (self.phases_ns[phase] - before.phases_ns[phase]) / requests / 1e6 for phase in _PHASES}
        return {"requests": requests, **means}


def splits(tagger: TaggerClient) -> dict[str, Split]:
    """Return the statistics of the tagger and of the engine, as far as the server tells them."""
    found = {}
    for name in (TAGGER, ENGINE):
        try:
            response = _call(tagger, "ModelStatistics", service_pb2.ModelStatisticsRequest(name=name))
        except TaggerError:  # restricted, or no such model: then there is no split
            continue
        for each in response.model_stats:
            phases = {phase: getattr(each.inference_stats, phase).ns for phase in _PHASES}
            found[each.name] = Split(each.inference_stats.success.count, phases)
    return found


def between(before: dict[str, Split], after: dict[str, Split]) -> dict[str, dict[str, float]]:
    """Return by model what `Split.since` says, for the models that answered requests between the two moments."""
    return {model: split for model in before.keys() & after.keys() if (split := after[model].since(before[model]))}


def forget_prefix(tagger: TaggerClient) -> None:
    """Put an unrelated prompt through the engine. The CPU engine remembers one sequence, and forgets the tagger's prefix over it.

    Raises:
        TaggerError: The engine cannot be asked.
    """
    ids = [random.randrange(10, 100) for _ in range(_UNRELATED_TOKENS)]
    request = service_pb2.ModelInferRequest(model_name=ENGINE)
    for name, values in (("input_ids", ids), ("input_lengths", [len(ids)]), ("request_output_len", [1])):
        request.inputs.add(name=name, datatype="INT32", shape=(1, len(values)))
        request.raw_input_contents.append(struct.pack(f"<{len(values)}i", *values))
    _call(tagger, "ModelInfer", request)


def _call(tagger: TaggerClient, method: str, request: Any) -> Any:
    return tagger._run(tagger._answer(tagger._send(method, request, _DEADLINE_S), math.inf, 0.0))
