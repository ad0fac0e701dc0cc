"""What docker/monitoring/ reads is there: by the real server, and for GPUs and NVIDIA's backend by the lists of their sources."""

import os
import re
import subprocess
import sys

import pytest

from build import ROOT
from build.ports import free_ports
from build.serve import Server
from pika_tagger import TaggerClient
from tests.build.test_monitoring import PAGE, QUERIES, RECORDED, RULES
from tests.support import endpoint
from tests.support.metrics import OF_A_GPU, OF_NVIDIAS_BACKEND, OF_PROMETHEUS, OF_ROBOTS, Exposed, exposed, selectors

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shown(server: Server, client: TaggerClient) -> Exposed:
    """The metrics after a celebrated tag and one that is not."""
    client.tag(user_last_message="2+2=4", pika_response="Chính xác! Cậu giỏi quá!")
    client.tag(user_last_message="Tớ buồn quá", pika_response="Ôi, tớ ở đây với cậu nhé.")
    return exposed(endpoint.text(server))


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_what_is_read_is_there(expression: str, shown: Exposed) -> None:
    there = {**shown, **OF_A_GPU, **OF_NVIDIAS_BACKEND, **OF_ROBOTS, **OF_PROMETHEUS}
    missing = [selector for selector in selectors(expression) if selector.name not in RECORDED and not selector.found_in(there)]
    assert missing == []


def test_the_example_for_robots_shows_what_the_rules_ask_for(server: Server) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    port = free_ports().http_port
    used = """
import urllib.request
tagger.tag(user_last_message="2+2=4", pika_response="Exactly!", budget_ms=10_000)
tagger.tag(user_last_message="2+2=4", pika_response=" ", budget_ms=10_000)
text = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics").read().decode()
for line in text.splitlines():
    if line.startswith("pika_client_"):
        print(line)
"""
    script = code.replace("gpu-box:8001", server.url).replace("9100", str(port)) + used.replace("{PORT}", str(port))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert {"pika_client_tags_total 1.0", 'pika_client_fallbacks_total{reason="refused"} 1.0'} <= set(shown)
    assert exposed(done.stdout).keys() == OF_ROBOTS.keys()
    assert sum(line.startswith("pika_client_fallbacks_total") for line in shown) == 6
