"""The pod of docker/kubernetes on this machine: entrypoint, arguments, TLS and probes of the real files, over the real server.

In place of the container's: the server of this environment, nothing for the check of the engine, other ports.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from build import ROOT, triton
from build.ports import free_ports
from build.settings import Ports

pytestmark = pytest.mark.e2e

BASE = ROOT / "docker" / "kubernetes" / "base"
CONTAINER = yaml.safe_load((BASE / "deployment.yaml").read_text())["spec"]["template"]["spec"]["containers"][0]
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Pod:
    """The process that a pod would be, and the folder of its files."""

    process: "subprocess.Popen[bytes]"
    ports: Ports
    folder: Path

    def probe(self, name: str) -> int:
        """Exit status of one of the three probes."""
        shell, script, *statuses = CONTAINER[name]["exec"]["command"]
        assert Path(script).name == "probe.sh"
        (self.folder / "probe.sh").write_text(
            (BASE / "probe.sh").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{self.ports.http_port}")
        )
        return subprocess.run([shell, self.folder / "probe.sh", *statuses], stderr=subprocess.DEVNULL, check=False).returncode

    def wait_until_started(self) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while self.probe("startupProbe") != 0:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            time.sleep(0.2)

    def processes(self) -> list[psutil.Process]:
        """The pod's first process and all below it."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]


@pytest.fixture(scope="module")
def pod(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder, ports, installed = tmp_path_factory.mktemp(f"pod-{os.getpid()}"), free_ports(), triton.installation()
    triton.make_backends(installed, folder)
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    line += " -addext subjectAltName=DNS:localhost -keyout tls.key -out tls.crt"
    subprocess.run(line.split(), cwd=folder, capture_output=True, check=True)
    environment = triton.environment(installed, folder)
    for name, script in (
        ("tools/python3", "exit 0"),  # the check of the engine, which has its own tests
        ("tools/tritonserver", f'PATH={environment["PATH"]} exec {installed.server} "$@"'),
        ("home/venv/bin/python", f'exec {sys.executable} "$@"'),
        ("home/docker/entrypoint.sh", (ROOT / "docker" / "entrypoint.sh").read_text()),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    environment |= {
        "PATH": f"{folder}/tools:/usr/bin:/bin",
        "PIKA_MODEL_REPOSITORY": str(repository),
        "PYTHONPATH": f"{ROOT}:{ROOT}/client",
    }
    arguments = [argument.replace("/tls/", f"{folder}/") for argument in CONTAINER["args"]]
    arguments += [f"--{protocol}-port={getattr(ports, f'{protocol}_port')}" for protocol in ("grpc", "http", "metrics")]
    arguments += [f"--backend-directory={folder}/backends", "--allow-gpu-metrics=false"]
    arguments += [f"--backend-config=python,shm-region-prefix-name={folder.name}-"]  # a container's shared memory goes with the container
    with (folder / "log").open("wb") as log:
        command = [str(folder / "home" / "docker" / "entrypoint.sh"), *arguments]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    made = Pod(process, ports, folder)
    try:
        yield made
    finally:
        if process.poll() is None:
            for each in made.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()
        for left in triton.shared_memory(folder):
            left.unlink()


def test_a_pod_starts_and_probes_are_content(pod: Pod) -> None:
    pod.wait_until_started()
    assert (pod.probe("readinessProbe"), pod.probe("livenessProbe")) == (0, 0)


def test_robots_get_in_by_tls_only(pod: Pod) -> None:
    pod.wait_until_started()
    certificate = str(pod.folder / "tls.crt")
    with InferenceServerClient(f"localhost:{pod.ports.grpc_port}", ssl=True, root_certificates=certificate) as client:
        assert client.is_model_ready("tagger", client_timeout=10)
    with InferenceServerClient(f"localhost:{pod.ports.grpc_port}") as client, pytest.raises(InferenceServerException):
        client.is_model_ready("tagger", client_timeout=5)


def test_http_and_its_port_are_of_the_pod_alone(pod: Pod) -> None:
    pod.wait_until_started()
    connections = [connection for each in pod.processes() for connection in each.net_connections("tcp")]
    listening = {(each.laddr.ip, each.laddr.port) for each in connections if each.status == psutil.CONN_LISTEN}
    assert {ip for ip, port in listening if port == pod.ports.http_port} == {"127.0.0.1"}
    assert {ip for ip, port in listening if port in (pod.ports.grpc_port, pod.ports.metrics_port)} <= {"0.0.0.0", "::"}
    assert {port for _, port in listening} == {pod.ports.http_port, pod.ports.grpc_port, pod.ports.metrics_port}


def test_a_busy_pod_is_neither_restarted_nor_taken_out(pod: Pod) -> None:
    pod.wait_until_started()
    url = f"http://127.0.0.1:{pod.ports.http_port}/v2/models/tagger/generate"
    line = json.dumps({"user_last_message": "2+2=4", "pika_response": "Exactly!"}).encode()
    calm = threading.Event()

    def ask() -> None:
        while not calm.is_set():
            with contextlib.suppress(OSError), urllib.request.urlopen(url, line, timeout=30) as answer:
                answer.read()

    callers = [threading.Thread(target=ask) for _ in range(24)]
    for caller in callers:
        caller.start()
    try:
        give_up = time.monotonic() + PATIENCE_S
        while pod.probe("startupProbe") == 0:  # until the queue is full: this one wants a tag
            assert time.monotonic() < give_up
        seen = [pod.probe(name) for name in ("readinessProbe", "livenessProbe") for _ in range(5)]
    finally:
        calm.set()
        for caller in callers:
            caller.join()
    assert seen == [0] * 10


def test_a_dead_engine_is_found(pod: Pod) -> None:
    pod.wait_until_started()
    engines = [each for each in pod.processes() if "stub" in each.name() and "tensorrt_llm" in " ".join(each.cmdline())]
    assert engines
    for engine in engines:
        engine.kill()
    assert (pod.probe("readinessProbe"), pod.probe("livenessProbe"), pod.probe("startupProbe")) == (1, 1, 1)
