"""docker/kubernetes/: valid by Kubernetes' own schemas, and its parts refer to each other and to the image as they should.

The files as they lie there are checked always; what comes out of the overlays by kustomize, with `make tools`. No cluster has run them. The
probe is tried on a real server in tests/e2e/test_kubernetes_probe.py.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from build import ROOT, settings, triton
from tests.support.metrics import selectors
from tests.support.tools import tool

FOLDER = ROOT / "docker" / "kubernetes"
VERSIONS = ("1.35", "1.36", "1.37")
"""Those that Kubernetes maintained in November 2026."""
OVERLAYS = ("l4", "rtx3090")
OBJECTS = [path for path in FOLDER.rglob("*.yaml") if path.name not in ("kustomization.yaml", "prometheus-adapter-values.yaml")]

Object = dict[str, Any]


def read(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@cache
def built(overlay: str) -> list[Object]:
    """What `kubectl apply -k` would send."""
    line = [tool("kustomize"), "build", str(FOLDER / "overlays" / overlay)]
    return list(yaml.safe_load_all(subprocess.run(line, capture_output=True, text=True, check=True).stdout))


def one(overlay: str, kind: str, start: str = "") -> Object:
    """The only object of a kind whose name starts in this way."""
    (found,) = (each for each in built(overlay) if each["kind"] == kind and each["metadata"]["name"].startswith(start))
    return found


def pod(overlay: str) -> Object:
    spec: Object = one(overlay, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_files_are_valid(path: Path, version: str) -> None:
    for each in read(path):
        assert kubernetes_validate.validate(each, version, strict=True).startswith(version)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("deployment.yaml", "readOnlyRootFilesystem", "readonlyRootFilesystem"),
        ("deployment.yaml", "failureThreshold: 4", "failureThreshold: four"),
        ("autoscaling.yaml", "type: Value", "kind: Value"),
        ("network.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: Ingress"),
        ("disruption.yaml", "policy/v1", "policy/v1beta9"),
    ],
)
def test_a_mistake_would_be_found(name: str, before: str, after: str) -> None:
    text = (FOLDER / "base" / name).read_text()
    assert text.count(before) == 1
    with pytest.raises((kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)):
        kubernetes_validate.validate(yaml.safe_load(text.replace(before, after)), VERSIONS[-1], strict=True)


def test_every_file_of_the_base_is_used() -> None:
    listed = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())
    files = {*listed["resources"], *(name for each in listed["configMapGenerator"] for name in each["files"]), "kustomization.yaml"}
    assert files == {path.name for path in (FOLDER / "base").iterdir()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_comes_out_of_an_overlay_is_valid(overlay: str, version: str) -> None:
    for each in built(overlay):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_its_own_gpu_pods_and_model_store(overlay: str) -> None:
    names = {(each["kind"], each["metadata"]["name"]) for each in built(overlay)}
    assert not names & {(each["kind"], each["metadata"]["name"]) for other in OVERLAYS if other != overlay for each in built(other)}
    gpu = settings.target(overlay).gpu
    assert gpu is not None
    # NVIDIA's GPU feature discovery writes the name with - for each space.
    assert pod(overlay)["nodeSelector"] == {"nvidia.com/gpu.product": gpu.name.replace(" ", "-")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_budget_and_network_policy_mean_the_pods_of_this_overlay(overlay: str) -> None:
    deployment = one(overlay, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels["pika-gpu"] == overlay
    (spread,) = pod(overlay)["topologySpreadConstraints"]
    chosen = [
        deployment["selector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
        one(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(each["spec"]["selector"] for each in built(overlay) if each["kind"] == "Service"),
    ]
    assert len(chosen) == 6
    assert all(selector == labels for selector in chosen)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_that_one_object_has_of_another_exist(overlay: str) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in built(overlay)}
    target = one(overlay, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    volumes = {volume["name"]: volume for volume in pod(overlay)["volumes"]}
    assert (target["kind"], target["name"]) in there
    assert ("PersistentVolumeClaim", volumes["models"]["persistentVolumeClaim"]["claimName"]) in there
    assert ("ConfigMap", volumes["probe"]["configMap"]["name"]) in there
    (container,) = pod(overlay)["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for service in (each["spec"] for each in built(overlay) if each["kind"] == "Service"):
        assert [ports[port["targetPort"]] for port in service["ports"]] == [port["port"] for port in service["ports"]]
    assert {rule["ports"][0]["port"] for rule in one(overlay, "NetworkPolicy")["spec"]["ingress"]} == ports.keys()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_is_what_the_image_expects(overlay: str) -> None:
    (container,) = pod(overlay)["containers"]
    entrypoint, dockerfile = ((ROOT / "docker" / name).read_text() for name in ("entrypoint.sh", "Dockerfile"))
    assert dict(re.findall(r"--(grpc|metrics)-port=(\d+)", entrypoint)) == {
        port["name"]: str(port["containerPort"]) for port in container["ports"]
    }
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert (mounts["models"]["mountPath"], mounts["models"]["readOnly"]) == (settings.container().model_repository, True)
    assert f"USER {pod(overlay)['securityContext']['runAsUser']}:{pod(overlay)['securityContext']['runAsGroup']}" in dockerfile
    assert "command" not in container
    assert container["args"][0] == "serve"
    grace_s, leaving_s = pod(overlay)["terminationGracePeriodSeconds"], container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace_s > leaving_s + triton.EXIT_TIMEOUT_S


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_has_no_rights_that_it_does_not_need(overlay: str) -> None:
    spec = pod(overlay)
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["seccompProfile"]["type"]) == (True, "RuntimeDefault")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    policy = one(overlay, "NetworkPolicy")["spec"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])
    assert read(FOLDER / "namespace.yaml")[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_robots_see_ready_pods_one_by_one_and_prometheus_sees_all(overlay: str) -> None:
    for name, all_of_them in (("tagger-metrics", True), (f"tagger-{overlay}", False)):
        service = one(overlay, "Service", name)["spec"]
        assert (service["clusterIP"], service.get("publishNotReadyAddresses", False)) == ("None", all_of_them)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_autoscaler_asks_for_what_prometheus_reckons_about_this_overlay(overlay: str) -> None:
    (metric,) = one(overlay, "HorizontalPodAutoscaler")["spec"]["metrics"]
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter-values.yaml").read_text())["rules"]["external"]
    assert metric["external"]["metric"]["name"] == rule["name"]["as"]
    service = metric["external"]["metric"]["selector"]["matchLabels"]["service"]
    assert one(overlay, "Service", "tagger-metrics")["metadata"]["name"] == service
    query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"]).replace("<<.LabelMatchers>>", f'service="{service}"')
    (read_by_it,) = selectors(query)
    rules = (ROOT / "docker" / "monitoring" / "rules.yml").read_text()
    assert f"record: {read_by_it.name}\n" in rules


def test_the_loader_fills_a_store_that_exists() -> None:
    (loader,) = read(FOLDER / "loader.yaml")
    (volume,) = loader["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == one("l4", "PersistentVolumeClaim")["metadata"]["name"]
    assert loader["metadata"]["namespace"] == read(FOLDER / "namespace.yaml")[0]["metadata"]["name"]


def test_shellcheck_finds_nothing_in_the_probe() -> None:
    line = [str(Path(sys.executable).parent / "shellcheck"), "--severity", "style", str(FOLDER / "base" / "probe.sh")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
