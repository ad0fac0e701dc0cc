"""docker/monitoring/: rules, dashboard and services agree with each other, with Prometheus' own tool and with Grafana's schema.

That the metrics are there is tests/e2e/test_metrics.py; that a real Prometheus works with all of it, tests/e2e/test_monitoring.py.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from build import ROOT, dashboard
from tests.support.metrics import OF_PROMETHEUS, OF_ROBOTS, selectors
from tests.support.tools import tool

DOCKER = ROOT / "docker"
MONITORING = DOCKER / "monitoring"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
QUERIES = [query for _, graphs in dashboard.ROWS for graph in graphs for query, _ in graph.queries]
# What the tagger promises; Triton's names are looked up in a running server.
OWN = set(re.findall(r"^\| `(pika_\w+)", (ROOT / "docs" / "tagger.md").read_text(encoding="utf-8"), re.MULTILINE))


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([tool("promtool"), *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)


def test_prometheus_takes_configuration_and_rules() -> None:
    done = promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_measure_and_alert_does_what_it_should() -> None:
    done = promtool("test", "rules", "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_measure_or_alert_is_left_untried() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    measured = {name for test in tests for case in test.get("promql_expr_test", []) for name in re.findall(r"pika:\w+:\w+", case["expr"])}
    called = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    assert (measured, called) == (RECORDED, set(ALERTS))


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_expressions_read_what_somebody_makes(expression: str) -> None:
    made = RECORDED | OWN | OF_PROMETHEUS.keys() | OF_ROBOTS.keys()
    for name in {selector.name for selector in selectors(expression)}:
        assert name.startswith("nv_") or re.sub("_(bucket|count)$", "", name) in made, name


def test_what_robots_should_show_is_told() -> None:
    assert set(re.findall(r"pika_client_\w+_total", PAGE)) >= OF_ROBOTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do_and_is_explained(name: str) -> None:
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning")
    assert ALERTS[name]["annotations"].keys() == {"summary", "action"}
    assert f"| `{name}` |" in PAGE


def test_the_dashboard_is_what_the_table_says() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text(), "run `python -m build.dashboard`"


def test_the_dashboard_has_nothing_that_grafanas_schema_does_not_know() -> None:
    raw = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(raw))) == raw
    panels = raw["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(place["x"], place["y"]) for panel in panels for place in [panel["gridPos"]]]
    assert len(set(places)) == len(places)


def test_every_query_of_the_table_is_in_the_dashboard_and_has_a_data_source() -> None:
    panels = [panel for panel in json.loads(dashboard.FILE.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]
    assert [target["expr"] for panel in panels for target in panel["targets"]] == QUERIES
    (source,) = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {(panel["datasource"]["type"], panel["datasource"]["uid"]) for panel in panels} == {(source["type"], source["uid"])}


def test_the_services_find_their_files_and_each_other() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    prometheus, grafana = services["prometheus"], services["grafana"]
    inside = {
        target: DOCKER / source for source, target in (volume.split(":")[:2] for volume in prometheus["volumes"] + grafana["volumes"])
    }
    (config,) = (flag.partition("=")[2] for flag in prometheus["command"] if flag.startswith("--config.file="))
    assert (inside[str(Path(config).parent)] / Path(config).name).is_file()
    provider = yaml.safe_load((inside["/etc/grafana/provisioning"] / "dashboards" / "pika_tagger.yml").read_text())["providers"][0]
    assert inside[provider["options"]["path"]] / dashboard.FILE.name == dashboard.FILE
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert inside[str(home.parent)] / home.name == dashboard.FILE

    (source,) = yaml.safe_load((inside["/etc/grafana/provisioning"] / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{port_inside(prometheus)}"
    (scraped,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"][0]["dns_sd_configs"]
    ((name, port),) = ((name, scraped["port"]) for name in scraped["names"])
    assert f":{port}" in services[name]["ports"][1]


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_the_services_are_confined_and_seen_from_this_machine_only(name: str) -> None:
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"][name]
    assert service["profiles"] == ["monitoring"]
    assert not service["user"].startswith("0:")
    assert (service["cap_drop"], service["security_opt"], service["read_only"]) == (["ALL"], ["no-new-privileges:true"], True)
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert [port.partition(":")[0] for port in service["ports"]] == ["127.0.0.1"]


def port_inside(service: dict[str, Any]) -> str:
    """The port that a service listens on in its container."""
    (mapping,) = service["ports"]
    return str(mapping).rpartition(":")[2]
