"""The Grafana dashboard as code: what it shows is the table ROWS, its form is Grafana's own schema in the types of grafana-foundation-sdk.

    python -m build.dashboard        writes docker/monitoring/grafana/dashboards/pika_tagger.json, which Grafana reads

A panel is a row of the table; after a change the file is written again, and tests/build/test_monitoring.py says so if it was not. Names of
metrics and labels are checked there and, against a running server, in tests/e2e/test_metrics.py. Needs requirements/dev.txt.
"""

import itertools
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import TooltipDisplayMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from build import ROOT

FILE = ROOT / "docker" / "monitoring" / "grafana" / "dashboards" / "pika_tagger.json"
DATA_SOURCE = DataSourceRef(type_val="prometheus", uid="pika-prometheus")
"""As docker/monitoring/grafana/provisioning/datasources/prometheus.yml calls it."""

_PANELS_IN_A_ROW = 3
_GRID_COLUMNS = 24
"""Of Grafana's layout."""
_HEIGHT = 8


@dataclass(frozen=True)
class Graph:
    """A panel: curves over time."""

    title: str
    about: str
    unit: str
    """One of grafana_foundation_sdk.models.units; PercentUnit is a share of 1, shown as percent."""
    queries: tuple[tuple[str, str], ...]
    """PromQL, and what to call the curves."""


ROWS = (
    (
        "What children see",
        (
            Graph(
                "Lines with the fallback face",
                "Share of lines for which no tag came in time. Empty where no robot service shows its counts: docs/monitoring.md.",
                units.PercentUnit,
                (("pika:fallbacks:ratio5m", "all robots"),),
            ),
            Graph(
                "Fallbacks by reason",
                "late: the budget was used up; unreachable: no server; busy: the queue was full; docs/client.md has the others.",
                units.RequestsPerSecond,
                (("sum by (reason) (rate(pika_client_fallbacks_total[5m]))", "{{reason}}"),),
            ),
            Graph(
                "Alerts",
                "1 where an alert of rules.yml calls.",
                units.Short,
                (('max by (alertname) (ALERTS{alertname=~"Pika.*", alertstate="firing"})', "{{alertname}}"),),
            ),
        ),
    ),
    (
        "Tags",
        (
            Graph(
                "Tags by emotion",
                "Health checks are tags, too: the same one every few seconds.",
                units.RequestsPerSecond,
                (("sum by (emotion) (rate(pika_tags_total[5m]))", "{{emotion}}"),),
            ),
            Graph(
                "Celebrated",
                "Share of tags with celebrate: yes. A sudden step after a change of prompt or model is worth a look at the dialogues.",
                units.PercentUnit,
                (('sum(rate(pika_tags_total{celebrate="yes"}[5m])) / sum(rate(pika_tags_total[5m]))', "celebrated"),),
            ),
            Graph(
                "Failures by reason",
                "In capitals what Triton counts, in small letters what the tagger answered. A full queue shows at the robots only.",
                units.RequestsPerSecond,
                (
                    ('sum by (reason) (rate(nv_inference_request_failure{model="tagger"}[5m]))', "{{reason}}"),
                    ("sum by (reason) (rate(pika_tag_failures_total[5m]))", "{{reason}}"),
                    ("sum(rate(pika_invalid_answers_total[5m]))", "invalid JSON"),
                ),
            ),
        ),
    ),
    (
        "Time",
        (
            Graph(
                "A tag, by the tagger's clock",
                "Without waiting in front of the tagger, and without the network.",
                units.Milliseconds,
                tuple(
                    (f"histogram_quantile({share}, sum by (le) (rate(pika_tag_duration_ms_bucket[5m])))", name)
                    for share, name in (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))
                ),
            ),
            Graph(
                "Within the budget",
                "50 ms is the limit, 25 ms what is wanted.",
                units.PercentUnit,
                (
                    ("pika:within_50ms:ratio5m", "within 50 ms, {{service}}"),
                    ("pika:within_25ms:ratio5m", "within 25 ms, {{service}}"),
                ),
            ),
            Graph(
                "Where the time goes",
                "Means of two minutes: a request as a whole, and the part of it that was spent waiting, at the tagger and at the engine.",
                units.Milliseconds,
                (
                    ("pika:request_duration_ms:mean2m", "request, {{service}}"),
                    ("pika:queue_duration_ms:mean2m", "waiting at {{model}}, {{instance}}"),
                ),
            ),
        ),
    ),
    (
        "Engine",
        (
            Graph(
                "Requests waiting",
                "In front of the models, and inside of NVIDIA's engine.",
                units.Short,
                (
                    ('nv_inference_pending_request_count{model=~"tagger|tensorrt_llm"}', "at {{model}}, {{instance}}"),
                    ('nv_trt_llm_request_metrics{request_type=~"waiting|active"}', "{{request_type}} in the engine, {{instance}}"),
                ),
            ),
            Graph(
                "Prompt found in the KV cache",
                "Share of prompt tokens that were not computed anew.",
                units.PercentUnit,
                (("pika:reused_prompt:ratio5m", "{{instance}}"),),
            ),
            Graph(
                "KV cache blocks",
                "NVIDIA's engine only. What is free still holds prefixes of earlier requests.",
                units.Short,
                (
                    (
                        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=~"used|free|max"}',
                        "{{kv_cache_block_type}}, {{instance}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "GPU",
        (
            Graph(
                "Memory",
                "All that is taken on the GPU, by whomever.",
                units.BytesIEC,
                (
                    ("nv_gpu_memory_used_bytes", "used, {{instance}} {{gpu_uuid}}"),
                    ("nv_gpu_memory_total_bytes", "there is, {{instance}} {{gpu_uuid}}"),
                ),
            ),
            Graph(
                "Busy",
                "Share of time in which some kernel ran; full at far less than the highest throughput.",
                units.PercentUnit,
                (("nv_gpu_utilization", "{{instance}} {{gpu_uuid}}"),),
            ),
            Graph(
                "Power",
                "At its limit a GPU lowers its clock, and tags take longer: an L4 has 72 W.",
                units.Watt,
                (("nv_gpu_power_usage", "{{instance}} {{gpu_uuid}}"), ("nv_gpu_power_limit", "limit, {{instance}} {{gpu_uuid}}")),
            ),
        ),
    ),
)


def text() -> str:
    """The dashboard as JSON, as Grafana reads it from a file."""
    board = (
        dashboard.Dashboard("Pika Tagger")
        .uid("pika-tagger")
        .description("Written by `python -m build.dashboard`: changes made here are gone after a restart.")
        .timezone("browser")
        .time("now-3h", "now")
        .refresh("10s")
        .readonly()
    )
    number = itertools.count(1)
    for title, graphs in ROWS:
        board = board.with_row(dashboard.Row(title).id(next(number)))
        for graph in graphs:
            board = board.with_panel(_panel(graph).id(next(number)))
    return JSONEncoder(sort_keys=True, indent=1, ensure_ascii=False).encode(board.build()) + "\n"


def _panel(graph: Graph) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .description(graph.about)
        .unit(graph.unit)
        .min(0)
        .datasource(DATA_SOURCE)
        .show_points(VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .span(_GRID_COLUMNS // _PANELS_IN_A_ROW)
        .height(_HEIGHT)
    )
    if graph.unit == units.PercentUnit:
        panel = panel.max(1)
    for letter, (expression, name) in zip("ABC", graph.queries, strict=False):
        panel = panel.with_target(prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(name))
    return panel


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
