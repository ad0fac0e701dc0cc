"""A real Prometheus with our configuration over the real server under load, and then over one whose engine has died.

Takes about ten minutes, so it runs only if PIKA_MONITORING_PICTURE says where the picture of the panels should go:

    PIKA_MONITORING_PICTURE=docs/pictures/monitoring.png .venv/bin/pytest tests/e2e/test_monitoring.py
"""

import contextlib
import json
import os
import random
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from build.ports import free_ports
from build.serve import Server, running
from pika_tagger import TaggerClient, TaggerError
from tests.build.test_monitoring import ALERTS, MONITORING, QUERIES, RULES
from tests.support.metrics import OF_A_GPU, OF_NVIDIAS_BACKEND, OF_ROBOTS, selectors
from tests.support.panels import Curve, draw
from tests.support.tools import tool

PICTURE = os.environ.get("PIKA_MONITORING_PICTURE")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not PICTURE, reason="takes ten minutes: PIKA_MONITORING_PICTURE=FILE.png runs it"),
]

LOAD_S = 360
PATIENCE_S = 600
RATES = (4, 12, 30, 8)
"""Lines a second, one after the other."""


class Prometheus:
    """A running Prometheus, asked through its HTTP interface."""

    def __init__(self, url: str) -> None:
        """Take the url of one."""
        self.url = url

    def ask(self, path: str, **arguments: str) -> Any:
        """The `data` of an answer."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def curves(self, query: str) -> list[Curve]:
        """What a panel of the last minutes would show."""
        now_s = time.time()
        data = self.ask("query_range", query=query, start=str(now_s - LOAD_S), end=str(now_s), step="5")
        made = [(series["metric"], [(float(when), float(value)) for when, value in series["values"]]) for series in data["result"]]
        return [Curve(labels, [when for when, _ in points], [value for _, value in points]) for labels, points in made]

    def firing(self) -> set[str]:
        """Names of the alerts that call."""
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}


@pytest.fixture(scope="module")
def own_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(repository, free_ports(), tmp_path_factory.mktemp("server") / "serve.log") as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def prometheus(own_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Our own configuration, but for the address of the server, which no name service knows here."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    servers = config["scrape_configs"][0]
    name = servers.pop("dns_sd_configs")[0]["names"][0]
    servers.pop("relabel_configs")
    servers["static_configs"] = [{"targets": [f"127.0.0.1:{own_server.ports.metrics_port}"], "labels": {"service": name}}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    for file in ("rules.yml", "robots.yml"):
        (folder / file).write_text((MONITORING / file).read_text())
    address = f"127.0.0.1:{free_ports().http_port}"
    line = [tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*line, f"--web.listen-address={address}"], stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()


def wait_until(found: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError):
            if found():
                return
        assert time.monotonic() < give_up
        time.sleep(2)


def test_panels_have_curves_and_no_alert_calls_under_load(
    own_server: Server, prometheus: Prometheus, evaluation: list[dict[str, Any]]
) -> None:
    lines = [{key: row[key] for key in ("user_last_message", "pika_response")} for row in evaluation]
    lines.append({"user_last_message": "", "pika_response": " "})  # refused
    arrivals, done = random.Random(1), time.monotonic() + LOAD_S

    def ask(client: TaggerClient) -> None:
        with contextlib.suppress(TaggerError):
            client.tag(**arrivals.choice(lines), strategy=arrivals.choice(["codes"] * 9 + ["json"]))

    with TaggerClient(own_server.url, timeout_s=5.0) as client:
        while time.monotonic() < done:
            threading.Thread(target=ask, args=(client,)).start()
            time.sleep(arrivals.expovariate(RATES[int((done - time.monotonic()) / LOAD_S * len(RATES))]))

    groups = prometheus.ask("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    assert {rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"} == ALERTS.keys()
    elsewhere = OF_A_GPU.keys() | OF_NVIDIAS_BACKEND.keys() | OF_ROBOTS.keys() | {"ALERTS"}
    empty = [query for query in QUERIES if not prometheus.curves(query)]
    recorded_elsewhere = {rule["record"] for rule in RULES if "record" in rule and _reads(rule["expr"], elsewhere)}
    assert [query for query in empty if not _reads(query, elsewhere | recorded_elsewhere)] == []
    assert prometheus.firing() <= {"PikaBudgetMissed", "PikaQueueGrowing"}  # on a busy machine they are right
    draw(prometheus.curves, Path(str(PICTURE)))


def test_an_engine_that_dies_behind_a_server_that_runs_is_told(own_server: Server, prometheus: Prometheus) -> None:
    stubs = [
        child for child in psutil.Process(own_server.process.pid).children(recursive=True) if "tensorrt_llm" in " ".join(child.cmdline())
    ]
    assert stubs
    for stub in stubs:
        stub.kill()
    # As docker and Kubernetes do: without requests nobody could tell.
    with TaggerClient(own_server.url, timeout_s=5.0) as client:

        def told() -> bool:
            with contextlib.suppress(TaggerError):
                client.health()
            return "PikaEngineDown" in prometheus.firing()

        wait_until(told)
    assert own_server.process.poll() is None
    assert {target["health"] for target in prometheus.ask("targets")["activeTargets"]} == {"up"}

    own_server.stop()
    wait_until(lambda: "PikaServerDown" in prometheus.firing() and "PikaEngineDown" not in prometheus.firing())


def _reads(expression: str, names: set[str]) -> bool:
    return any(selector.name in names for selector in selectors(expression))
