"""Which metrics a PromQL expression reads, and which there are, for tests of docker/monitoring/.

What a server on a processor cannot show is listed here from its source; everything else is compared with a running server.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import promql_parser
from prometheus_client.parser import text_string_to_metric_families

Exposed = Mapping[str, list[Mapping[str, str]]]
"""Name of a metric -> the labels of each of its samples."""

_BACKEND_LABELS = {"model": "tensorrt_llm", "version": "1"}


def _backend(label: str, *values: str) -> list[Mapping[str, str]]:
    return [{**_BACKEND_LABELS, label: value} for value in values]


# triton_backend/inflight_batcher_llm/src/custom_metrics_reporter/custom_metrics_reporter.cc of NVIDIA/TensorRT-LLM.
OF_NVIDIAS_BACKEND: Exposed = {
    "nv_trt_llm_request_metrics": _backend("request_type", "active", "max", "scheduled", "context", "waiting"),
    "nv_trt_llm_kv_cache_block_metrics": _backend("kv_cache_block_type", "max", "free", "used", "tokens_per", "reused", "fraction"),
}
# docs/user_guide/metrics.md of triton-inference-server/server.
OF_A_GPU: Exposed = {
    name: [{"gpu_uuid": "GPU-1"}]
    for name in (
        "nv_gpu_utilization",
        "nv_gpu_memory_total_bytes",
        "nv_gpu_memory_used_bytes",
        "nv_gpu_power_usage",
        "nv_gpu_power_limit",
    )
}
# docs/monitoring.md says to robot services what to show.
OF_ROBOTS: Exposed = {
    "pika_client_tags_total": [{}],
    "pika_client_fallbacks_total": [{"reason": "late"}],
}
# Prometheus' own.
OF_PROMETHEUS: Exposed = {
    "up": [{"job": "pika-tagger"}, {"job": "pika-robots"}],
    "ALERTS": [{"alertname": "PikaServerDown", "alertstate": "firing"}],
}


@dataclass(frozen=True)
class Selector:
    """A metric as an expression asks for it."""

    name: str
    labels: Mapping[str, str]
    """Label -> the regular expression that its whole value has to match."""

    def found_in(self, exposed: Exposed) -> bool:
        """Whether a sample is there with these labels, and for each alternative of each label one that has it."""
        samples = exposed.get(self.name, [])
        return any(self._matches(labels) for labels in samples) and all(
            any(re.fullmatch(alternative, labels.get(label, "")) for labels in samples)
            for label, pattern in self.labels.items()
            for alternative in ([pattern] if label == "le" else pattern.split("|"))
        )

    def _matches(self, labels: Mapping[str, str]) -> bool:
        return all(re.fullmatch(pattern, labels.get(label, "")) for label, pattern in self.labels.items())


def selectors(expression: str) -> list[Selector]:
    """All metrics that a PromQL expression reads.

    Raises:
        ValueError: it is no PromQL.
    """
    return list(_walk(promql_parser.parse(expression)))


def samples(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Name, labels and value of each, from Prometheus' text form."""
    written = set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:  # the parser calls every counter _total, whether it is called so or not
            name = sample.name if sample.name in written else sample.name.removesuffix("_total")
            yield name, sample.labels, sample.value


def exposed(text: str) -> Exposed:
    """What a metrics endpoint shows, in Prometheus' text form."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for name, labels, _ in samples(text):
        found.setdefault(name, []).append(labels)
    return found


def _walk(node: object) -> Iterator[Selector]:
    if isinstance(node, promql_parser.VectorSelector):
        if node.name is None:
            raise ValueError("give the metric's name in front of the braces")
        yield Selector(node.name, {matcher.name: _pattern(matcher) for matcher in node.matchers.matchers})
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else [inner] if inner is not None else []:
            yield from _walk(each)


def _pattern(matcher: promql_parser.Matcher) -> str:
    if matcher.op not in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.Re):
        raise ValueError(f"a label that must not match says little about what there is: {matcher.name}")
    return matcher.value if matcher.op == promql_parser.MatchOp.Re else re.escape(matcher.value)
