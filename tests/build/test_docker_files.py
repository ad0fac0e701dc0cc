"""Dockerfile, entrypoint and compose.yaml: clean by their linters and schema, and right about what they call.

What runs inside is tried in test_docker_image.py. No docker is needed here, and none has run these files.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from build import ROOT, settings, triton
from tests.support.fake_triton import FakeTriton

DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
LINTERS = {
    "Dockerfile": ("hadolint", "--failure-threshold", "style"),
    "entrypoint.sh": ("shellcheck", "--severity", "style"),
    "compose.yaml": ("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
}
# File -> what to replace by what, so that its linter must complain.
MISTAKES = {
    "Dockerfile": ("USER 1000:1000", "USER root"),
    "entrypoint.sh": ('"$@"', "$@"),
    "compose.yaml": ("read_only: true", "readonly: true"),
}


def lint(name: str, path: Path) -> "subprocess.CompletedProcess[str]":
    program, *options = LINTERS[name]
    line = [str(Path(sys.executable).parent / program), *options, str(path)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def service(name: str) -> dict[str, Any]:
    """A service of compose.yaml, before its variables are filled in."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"][name]
    return found


def filled(text: str, **values: str) -> str:
    """Text of compose.yaml with these variables, and its own defaults for the others."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}", lambda found: values.get(found[1], found[2] or ""), text)


@pytest.mark.parametrize("name", LINTERS)
def test_linters_find_nothing(name: str) -> None:
    done = lint(name, DOCKER / name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", LINTERS)
def test_linters_would_find_a_mistake(name: str, tmp_path: Path) -> None:
    before, after = MISTAKES[name]
    text = (DOCKER / name).read_text()
    assert before in text
    (tmp_path / name).write_text(text.replace(before, after))
    assert lint(name, tmp_path / name).returncode != 0


@pytest.mark.parametrize("name", ["tagger", "engine"])
def test_services_have_no_rights_that_they_do_not_need(name: str) -> None:
    row = service(name)
    assert filled(row["user"]) == "1000:1000"
    assert (row["cap_drop"], row["security_opt"], row["read_only"]) == (["ALL"], ["no-new-privileges:true"], True)
    assert "privileged" not in row
    limits = row["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", ["tagger", "engine"])
def test_services_get_the_gpu_that_was_chosen_and_what_nvidia_asks_for(name: str) -> None:
    row = service(name)
    (device,) = row["deploy"]["resources"]["reservations"]["devices"]
    assert [filled(index, PIKA_GPU="2") for index in device["device_ids"]] == ["2"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert (row["shm_size"], row["ulimits"]) == ("1g", {"memlock": -1, "stack": 67108864})
    assert row["init"] is True


@pytest.mark.parametrize("target", ["l4", "rtx3090", "a10g"])
def test_the_server_reads_what_model_repository_makes_and_cannot_write_there(target: str) -> None:
    (mount,) = service("tagger")["volumes"]
    source = COMPOSE.parent / filled(mount["source"], PIKA_TARGET=target)
    assert source.resolve() == settings.model("phi-3-mini").folder / f"triton-{target}"
    assert (mount["target"], mount["read_only"]) == (settings.container().model_repository, True)


def test_the_target_has_to_be_chosen() -> None:
    text = COMPOSE.read_text()
    assert set(re.findall(r"\$\{PIKA_TARGET(\W\W?)", text)) == {":?"}


def test_the_server_is_reached_from_this_machine_only_unless_told_otherwise() -> None:
    ports = service("tagger")["ports"]
    assert [filled(port) for port in ports] == ["127.0.0.1:8001:8001", "127.0.0.1:8002:8002"]
    assert filled(ports[0], PIKA_BIND="10.0.0.5", PIKA_GRPC_PORT="9001") == "10.0.0.5:9001:8001"
    flags = re.findall(r"--(?:grpc|metrics)-port=(\d+)", (DOCKER / "entrypoint.sh").read_text())
    assert [port.rpartition(":")[2] for port in ports] == flags


def test_docker_waits_longer_for_the_server_than_the_server_for_its_requests() -> None:
    (timeout_s,) = re.findall(r"--exit-timeout-secs=(\d+)", (DOCKER / "entrypoint.sh").read_text())
    assert int(timeout_s) == triton.EXIT_TIMEOUT_S
    assert int(service("tagger")["stop_grace_period"].removesuffix("s")) > int(timeout_s)


@pytest.mark.parametrize("works", [True, False])
def test_health_is_a_real_tag(works: bool) -> None:
    kind, python, *arguments = service("tagger")["healthcheck"]["test"]
    assert (kind, python) == ("CMD", "/opt/pika/venv/bin/python")
    with FakeTriton() as server:
        if not works:  # it goes on calling itself ready
            server.fail_with("INTERNAL", "Stub process 'engine' is not healthy.")
        line = [sys.executable, *(word.replace("127.0.0.1:8001", server.url) for word in arguments)]
        assert line[-1] == server.url
        done = subprocess.run(line, env={"PYTHONPATH": str(ROOT / "client")}, capture_output=True, text=True, check=False)
        assert (done.returncode, len(server.requests)) == (0 if works else 1, 1), done.stderr


def test_every_variable_is_explained() -> None:
    explained = set(re.findall(r"`(PIKA_\w+)`", (ROOT / "docs" / "docker.md").read_text()))
    assert explained == set(re.findall(r"\$\{(PIKA_\w+)", COMPOSE.read_text()))
