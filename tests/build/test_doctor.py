"""The doctor names what stands in the way with its fix, in words and as JSON, and its exit status is about the chosen target alone."""

import json
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from build import ROOT, check_machine, doctor, doctor_gpu, manifest, settings
from build.doctor_report import Check, Report, State
from build.gpu_info import read_gpus
from build.model_size import Memory, shape_of
from tests.support.checkout import Checkout
from tests.support.machine import Commands

GIB = 1 << 30
DiskUsage = namedtuple("DiskUsage", "total used free")
DOCKER = '{"ServerVersion":"28.2.2","Runtimes":{"nvidia":{},"runc":{}},"DockerRootDir":"/var/lib/docker"}'
IMAGE = settings.container()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(settings, "CHECKPOINTS", tmp_path / "checkpoints")
    return Commands(folder)


def set_free(monkeypatch: pytest.MonkeyPatch, gb: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: DiskUsage(0, 0, int(gb * 1e9)))


def on_target(name: str, gpu_index: int = 0, model: str = "phi-3-mini") -> dict[str, Check]:
    report = doctor.examine(settings.model(model), settings.target(name), settings.Ports(), gpu_index)
    return {check.name: check for check in report.checks}


def test_the_shared_3090s_can_be_used_where_there_is_room(commands: Commands) -> None:
    commands.nvidia_smi("three_rtx_3090")
    commands.docker(DOCKER, has_image=True)
    found = on_target("rtx3090", gpu_index=1)
    assert {name: found[name].state for name in ("driver", "gpu", "gpu memory", "docker", "container toolkit", "image")} == {
        "driver": State.WARNING,
        "gpu": State.OK,
        "gpu memory": State.OK,
        "docker": State.OK,
        "container toolkit": State.OK,
        "image": State.OK,
    }
    assert "535.230.02, CUDA 12.2; the image has CUDA 12.9" in found["driver"].found
    assert "GeForce has no forward compatibility" in found["driver"].found
    assert "575 or newer" in found["driver"].fix
    assert "0: 4.0 of 24.0, 1: 11.7 of 24.0, 2: 7.7 of 24.0; " in found["gpu memory"].found
    assert "needed: weights 2.2, KV cache" in found["gpu memory"].found


def test_a_gpu_that_is_too_full_is_no_obstacle_while_another_has_room(commands: Commands) -> None:
    commands.nvidia_smi("three_rtx_3090")
    check = on_target("rtx3090", gpu_index=0)["gpu memory"]
    assert check.state is State.WARNING
    assert "GPU 0 is too full" in check.found
    assert check.fix == "gpu=1 before the task"


def test_where_no_gpu_has_room_it_is_told_how_much_is_lacking(commands: Commands) -> None:
    commands.nvidia_smi("three_rtx_3090")
    gpus = read_gpus().gpus
    check = doctor_gpu.memory(gpus, 0, Memory(4 * GIB, 5 * GIB, GIB, 2.6 * GIB))
    assert check.state is State.PROBLEM
    assert "12.6 needed: weights 4.0, KV cache 5.0, activations 1.0, CUDA and libraries 2.6" in check.found
    assert check.fix.startswith("GPU 1 lacks 0.9 GiB: stop or move a service")
    assert "kv_cache_tokens" in check.fix
    assert doctor_gpu.memory(gpus, 1, Memory(4 * GIB, 5 * GIB, GIB, 1.6 * GIB)).state is State.OK


def test_an_l4_with_a_new_driver_is_fine(commands: Commands) -> None:
    commands.nvidia_smi("l4")
    found = on_target("l4")
    assert [found[name].state for name in ("driver", "gpu", "gpu memory")] == [State.OK] * 3
    assert "575.57.08, CUDA 12.9" in found["driver"].found


@pytest.mark.parametrize(
    ("gpu", "driver", "state"),
    [
        ("NVIDIA GeForce RTX 3090", "524.99", State.PROBLEM),
        ("NVIDIA GeForce RTX 3090", "525.60.13", State.WARNING),
        ("NVIDIA GeForce RTX 3090", "570.124.06", State.WARNING),
        ("NVIDIA GeForce RTX 3090", "575.57.08", State.OK),
        ("NVIDIA L4", "535.54.03", State.WARNING),
        ("NVIDIA L4", "535.86.10", State.OK),
        ("NVIDIA L4", "580.95.05", State.OK),
    ],
)
def test_which_drivers_can_run_the_image(commands: Commands, tmp_path: Path, gpu: str, driver: str, state: State) -> None:
    header = (ROOT / "tests/data/nvidia_smi/l4.csv").read_text().partition("\n")[0]
    (tmp_path / "one.csv").write_text(f"{header}\n0, {gpu}, {driver}, 8.6, 24576 MiB, 0 MiB, 24576 MiB\n")
    commands.installed("nvidia-smi", f"cat {tmp_path}/one.csv")
    check = doctor_gpu.driver(read_gpus(), IMAGE)
    assert check.state is state
    assert (check.fix != "") == (state is not State.OK)


def test_another_gpu_than_the_targets_is_named_with_both_sides(commands: Commands) -> None:
    commands.nvidia_smi("three_rtx_3090")
    found = on_target("l4")
    assert found["gpu"].state is State.PROBLEM
    assert "NVIDIA GeForce RTX 3090 (compute capability 8.6)" in found["gpu"].found
    assert "the target is for NVIDIA L4 (8.9)" in found["gpu"].found
    assert "gpu memory" not in found


def test_a_gpu_number_that_does_not_exist_is_told(commands: Commands) -> None:
    commands.nvidia_smi("three_rtx_3090")
    found = on_target("rtx3090", gpu_index=3)
    assert (found["gpu"].state, found["gpu"].fix) == (State.WARNING, "gpu=0 before the task")
    assert "too full" not in found["gpu memory"].found


def test_memory_that_the_driver_does_not_tell_stops_nothing(commands: Commands) -> None:
    commands.installed("nvidia-smi", "cat tests/data/nvidia_smi/memory_not_told.csv")
    assert on_target("l4")["gpu memory"].state is State.WARNING


def test_how_much_an_unknown_model_needs_is_not_guessed(commands: Commands) -> None:
    commands.nvidia_smi("l4")
    found = on_target("l4", model="phi-3-mini-tuned")
    assert (found["gpu memory"].state, found["disk"].state) == (State.WARNING, State.WARNING)
    assert "doit download" in found["gpu memory"].fix


@pytest.mark.parametrize(
    ("script", "found", "fix"),
    [
        (None, "docker is not installed", "docs.docker.com/engine/install"),
        (
            'echo "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock" >&2; exit 1',
            "permission denied while trying to connect",
            "usermod -aG docker",
        ),
        (
            'echo "{\\"ServerVersion\\":\\"\\"}"; echo "Cannot connect to the Docker daemon. Is the docker daemon running?" >&2; exit 1',
            "Cannot connect to the Docker daemon",
            "systemctl start docker",
        ),
        (
            'echo "{\\"ServerVersion\\":\\"\\"}"; echo "Cannot connect to the Docker daemon. Is the docker daemon running?" >&2',
            "Cannot connect to the Docker daemon",
            "systemctl start docker",
        ),
    ],
)
def test_a_docker_that_cannot_be_used(commands: Commands, script: str | None, found: str, fix: str) -> None:
    if script:
        commands.installed("docker", script)
    (check,) = doctor_gpu.containers(IMAGE)
    assert check.state is State.PROBLEM
    assert found in check.found
    assert fix in check.fix


def test_docker_without_the_toolkit(commands: Commands) -> None:
    commands.docker(DOCKER.replace('"nvidia":{},', ""), has_image=True)
    missing = {check.name: check for check in doctor_gpu.containers(IMAGE)}["container toolkit"]
    assert missing.state is State.PROBLEM
    assert missing.fix.startswith("install nvidia-container-toolkit")
    commands.installed("nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.17.8'")
    unknown = {check.name: check for check in doctor_gpu.containers(IMAGE)}["container toolkit"]
    assert unknown.state is State.PROBLEM
    assert unknown.fix.startswith("`sudo nvidia-ctk runtime configure")
    commands.installed("nvidia-container-runtime-hook", "exit 0")
    there = {check.name: check for check in doctor_gpu.containers(IMAGE)}["container toolkit"]
    assert (there.state, there.found) == (State.OK, "NVIDIA Container Toolkit CLI version 1.17.8")


@pytest.mark.parametrize(("free_gb", "state"), [(10.0, State.PROBLEM), (20.0, State.WARNING), (100.0, State.OK)])
def test_the_image_wants_room(commands: Commands, monkeypatch: pytest.MonkeyPatch, free_gb: float, state: State) -> None:
    commands.docker(DOCKER, has_image=False)
    set_free(monkeypatch, free_gb)
    check = {check.name: check for check in doctor_gpu.containers(IMAGE)}["image"]
    assert check.state is state
    assert f"{free_gb:.0f} GB free in /var/lib/docker" in check.found
    assert commands.asked()[-1] == "docker image inspect --format {{.Id}} " + IMAGE.image


def test_where_tensorrt_llm_is_installed_no_container_is_looked_for(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("build.container.installed", lambda: True)
    for version, state in (("1.0.0", State.OK), ("1.2.1", State.PROBLEM)):
        monkeypatch.setattr(manifest, "versions", lambda *names, version=version: dict.fromkeys(names, version))
        found = {check.name: check for check in doctor_gpu.checks(read_gpus(), _l4(), 0, None, settings.container())}
        assert found["tensorrt_llm"].state is state
        assert "docker" not in found


def _l4() -> settings.Gpu:
    gpu = settings.target("l4").gpu
    assert gpu is not None
    return gpu


def test_disk_counts_what_is_still_to_be_made(place: Checkout, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = shape_of(settings.model("phi-3-mini"))
    set_free(monkeypatch, 14.0)
    before = doctor.disk(place.model, place.target, shape)
    assert before.state is State.PROBLEM
    assert "14.0 GB free" in before.found
    assert "14.6 GB needed for hf, awq, trtllm, engine-cpu" in before.found
    place.finished("hf", {"config.json": "{}"})
    after = doctor.disk(place.model, place.target, shape)
    assert after.state is State.OK
    assert "7.0 GB needed for awq, trtllm, engine-cpu" in after.found


def test_a_port_that_is_taken_is_told_and_stops_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        taken = doctor.port("grpc_port", number)
        assert taken.state is State.WARNING
        assert str(number) in taken.found
        assert "grpc_port=NUMBER" in taken.fix
    assert doctor.port("grpc_port", number).state is State.OK


def test_packages_that_are_missing_or_others_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = tmp_path / "pipeline.txt"
    monkeypatch.setattr(doctor, "_REQUIREMENTS", requirements)
    numpy = manifest.versions("numpy")["numpy"]
    requirements.write_text(f"# pins\nnumpy=={numpy}\n")
    assert doctor.packages().state is State.OK
    requirements.write_text("numpy==1.0\n")
    assert f"numpy {numpy} instead of 1.0" in doctor.packages().found
    assert doctor.packages().state is State.WARNING
    requirements.write_text(f"numpy=={numpy}\nno-such-package-of-ours==1.0\n")
    assert doctor.packages().state is State.PROBLEM
    assert "not installed: no-such-package-of-ours" in doctor.packages().found


def test_what_the_cpu_engine_needs_stops_no_gpu_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_machine, "problems", lambda: ["this Python has no shared library: mend it"])
    monkeypatch.setattr(check_machine, "libpython_folder", lambda: None)
    assert doctor.machine(settings.target("cpu"), installed=True).state is State.PROBLEM
    assert doctor.machine(settings.target("l4"), installed=True).state is State.WARNING
    monkeypatch.setattr(check_machine, "libpython_folder", lambda: Path("/usr/lib"))
    assert doctor.machine(settings.target("cpu"), installed=True).state is State.WARNING
    assert doctor.machine(settings.target("cpu"), installed=False).state is State.PROBLEM


def test_a_broken_driver_stops_the_gpu_target_and_not_the_cpu(commands: Commands) -> None:
    commands.broken_nvidia_smi("driver_not_loaded", 9)
    assert on_target("cpu")["gpu"].state is State.OK
    assert on_target("rtx3090")["gpu"].state is State.PROBLEM


def test_the_report_is_one_line_a_check_with_its_fix() -> None:
    ok, warning = Check("disk", State.OK, "much room"), Check("grpc_port", State.WARNING, "taken", "take another")
    works = Report("m", "t", (ok, warning))
    assert works.works
    assert works.text().splitlines() == [
        "ok       disk       much room",
        "warning  grpc_port  taken -> take another",
        "model=m target=t can work on this machine",
    ]
    broken = Report("m", "t", (ok, Check("gpu", State.PROBLEM, "none", "buy one")))
    assert not broken.works
    assert broken.text().splitlines()[-1] == "model=m target=t cannot work on this machine yet: gpu"
    assert json.loads(broken.json())["checks"][1] == {"name": "gpu", "state": "problem", "found": "none", "fix": "buy one"}


def test_a_problem_without_a_fix_is_refused() -> None:
    with pytest.raises(ValueError, match="no fix"):
        Check("gpu", State.PROBLEM, "none")


def test_the_exit_status_is_about_the_chosen_target(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.broken_nvidia_smi("no_devices", 6)
    commands.docker(DOCKER, has_image=True)
    set_free(monkeypatch, 100.0)
    assert doctor.main(["--target", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["works"] is True
    assert doctor.main(["--target", "l4", "--model", "phi-3-mini", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["works"], report["target"]) == (False, "l4")
    assert [check["name"] for check in report["checks"] if check["state"] == "problem"] == ["gpu"]
    assert doctor.main(["--target", "tpu"]) == 2
    assert "target=tpu is not known" in capsys.readouterr().err


def test_it_runs_with_the_standard_library_alone() -> None:
    # -S leaves out site-packages, as on a machine where nothing was installed yet.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "build.doctor", "--json"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    assert done.returncode == 1
    packages = json.loads(done.stdout)["checks"][0]
    assert (packages["name"], packages["state"]) == ("packages", "problem")
    assert "make install" in packages["fix"]
