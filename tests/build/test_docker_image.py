"""What is in the image, and what it does when it starts: docker's part is played, everything of ours is run.

The files are those that .dockerignore lets through and the Dockerfile copies, in a folder of their own. Python sees no packages but those
that the Dockerfile installs and those that come with TensorRT-LLM. GPU, trtllm-build and tritonserver are scripts.
"""

import contextlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker.utils  # type: ignore[import-not-found]  # mypy takes our own folder for it
import pytest
import yaml  # type: ignore[import-untyped]

from build import ROOT, manifest, settings, triton
from build.server_options import Access
from build.settings import Ports
from tests.support import tokenizers_for_tests

DOCKER = ROOT / "docker"
L4 = "NVIDIA L4, 8.9, 570.124.06"
PATIENCE_S = 30
# What our code takes from NVIDIA's image: TensorRT-LLM 1.0.0 pins transformers, which needs the first four; torch needs the last.
IN_NVIDIAS_IMAGE = ("numpy", "packaging", "safetensors", "tokenizers", "typing_extensions")

TRTLLM_BUILD = f"""\
#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.trtllm_container import trtllm_build_parser
given = trtllm_build_parser().parse_args()
given.output_dir.joinpath("config.json").write_text('{{"version": "1.0.0"}}')
given.output_dir.joinpath("rank0.engine").write_text("an engine")
"""
TRITONSERVER = """\
#!/bin/sh
trap 'echo told to stop; exit 7' TERM
echo "started $$ ${TOKENIZERS_PARALLELISM-} $*"
[ -z "${SERVER_FAILS-}" ] || exit "$SERVER_FAILS"
while :; do sleep 0.05; done
"""


def context_of(root: Path) -> set[str]:
    """Files that docker would send to the builder, by the rules of .dockerignore as docker's own SDK has them."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    found = docker.utils.exclude_paths(str(root), patterns, dockerfile=("docker/Dockerfile", None))
    return {path for path in found if (root / path).is_file()}


def dockerfile() -> list[list[str]]:
    """The instructions of the Dockerfile, as words."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def links_to(distributions: list[str], folder: Path) -> None:
    """Make `folder` one from which only these distributions can be imported."""
    for name in distributions:
        for file in importlib.metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate())


@dataclass(frozen=True)
class Image:
    """The folder that stands for /opt/pika, the commands that NVIDIA's image has, packages, and the files that docker was sent."""

    home: Path
    tools: Path
    packages: Path
    files: frozenset[str]

    def environment(self, **more: str) -> dict[str, str]:
        """For commands in a container."""
        path = os.pathsep.join([str(self.tools), "/usr/bin", "/bin"])
        return {
            "PATH": path,
            "HOME": "/tmp",
            "USER": "pika",
            "PYTHONDONTWRITEBYTECODE": "1",
            "GPU": L4,
            "VERSIONS": "1.0.0 10.11.0.33",
        } | more

    def run(self, *line: str) -> "subprocess.CompletedProcess[str]":
        """A command in the folder of the pipeline."""
        return subprocess.run(line, cwd=self.home, env=self.environment(), capture_output=True, text=True, check=False)

    @contextlib.contextmanager
    def container(self, repository: Path, *arguments: str, **more: str) -> Iterator["subprocess.Popen[str]"]:
        """The entrypoint; whatever is left of it at the end of the block is killed, as a container would be."""
        environment = self.environment(PIKA_MODEL_REPOSITORY=str(repository), **more)
        line = [str(self.home / "docker" / "entrypoint.sh"), *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(line, env=environment, cwd="/", stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def ended(self, repository: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Status and output of the entrypoint when it has ended by itself."""
        with self.container(repository, *arguments, **more) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("image")
    made = Image(folder / "pika", folder / "tools", folder / "packages", frozenset(context_of(ROOT)))
    for path in (made.home, made.tools, made.packages):
        path.mkdir()
    for _, *sources, target in (words for words in dockerfile() if words[0] == "COPY"):
        for source in sources:
            taken = [file for file in made.files if file == source or file.startswith(f"{source}/")]
            assert taken, f"COPY {source}: there is nothing of it in the context"
            for file in taken:
                inside = Path(target) / (Path(file).name if file == source else Path(file).relative_to(source))
                (made.home / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, made.home / inside)
    names = [line for line in (made.home / "docker" / "packages.txt").read_text().splitlines() if not line.startswith("#")]
    links_to([*names, *IN_NVIDIAS_IMAGE], made.packages)
    (made.packages / "tensorrt_llm").mkdir()
    (made.packages / "tensorrt_llm" / "__init__.py").touch()
    # -S: nothing of the environment of these tests. The path is the environment's own, not a variable that its children would see.
    packages = f"import sys; sys.path[1:1] = {[str(made.packages), str(made.home / 'client')]!r}"
    doit = f"#!{sys.executable} -S\n{packages}\nfrom doit.doit_cmd import DoitMain\nsys.exit(DoitMain().run(sys.argv[1:]))\n"
    script(made.home / "venv" / "bin" / "doit", doit)
    module = "import runpy\nassert sys.argv.pop(1) == '-m'\nsys.path[0] = ''\nrunpy.run_module(sys.argv.pop(1), run_name='__main__')\n"
    script(made.home / "venv" / "bin" / "python", f"#!{sys.executable} -S\n{packages}\n{module}")
    # What the system's Python is asked with -c, it is asked about TensorRT-LLM.
    script(made.tools / "python3", f'#!/bin/sh\n[ "$1" = -c ] && echo "$VERSIONS" || exec {sys.executable} -S "$@"\n')
    script(made.tools / "nvidia-smi", '#!/bin/sh\necho "$GPU"\n')
    script(made.tools / "trtllm-build", TRTLLM_BUILD)
    script(made.tools / "tritonserver", TRITONSERVER)
    return made


def script(path: Path, text: str) -> None:
    """Put a command there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def built(image: Image) -> Path:
    """The model repository as the service `engine` of compose.yaml makes it, from an AWQ and a TensorRT-LLM checkpoint."""
    model = image.home / "checkpoints" / "phi-3-mini"
    tokenizer = {"tokenizer.json": tokenizers_for_tests.tokenizer_json("sentence_piece"), "tokenizer_config.json": "{}"}
    with manifest.new_folder(model / "awq", "quantize", {}, {}, {}) as draft:
        for name, text in tokenizer.items():
            (draft.path / name).write_text(text)
    awq = manifest.read(model / "awq").content_hash
    with manifest.new_folder(model / "trtllm", "convert", {"awq": awq}, {"layout": "awq"}, {}) as draft:
        (draft.path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
        draft.facts["sms"] = None
    done = image.run(*engine_command("l4"))
    assert done.returncode == 0, done.stdout + done.stderr
    return model / "triton-l4"


@pytest.fixture
def repository(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(built, tmp_path / "models")


def engine_command(target: str) -> list[str]:
    """The command of the service `engine`, as compose would fill it in."""
    command: list[str] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["engine"]["command"]
    values = (re.sub(r"\$\{PIKA_TARGET:\?[^}]*\}", target, word) for word in command)
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word).replace("$$", "$") for word in values]


def laid_out(image: Image) -> set[str]:
    """Files in the folder of the pipeline, without what is mounted or installed there."""
    paths = (path.relative_to(image.home) for path in image.home.rglob("*") if path.is_file())
    return {str(path) for path in paths if path.parts[0] not in ("checkpoints", "venv")}


def test_the_context_is_what_the_image_takes(image: Image) -> None:
    top = {path.partition("/")[0] for path in image.files} - {".dockerignore"}
    assert top == {"build", "client", "docker", "dodo.py", "model_repository", "requirements"}
    assert laid_out(image) == image.files - {".dockerignore", "docker/Dockerfile"}


def test_the_folder_build_is_in_the_context_as_a_whole() -> None:
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "build").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert ours
    assert ours <= context_of(ROOT)


def test_weights_tests_environments_and_secrets_stay_out(tmp_path: Path) -> None:
    out = (
        ".env .git/config .venv/bin/python .doit.db tests/build/test_a.py docs/a.md docker/.env docker/compose.yaml notes/key.pem "
        "checkpoints/pika-tiny/hf/model.safetensors checkpoints/phi-3-mini/triton-l4/tensorrt_llm/1/engine/rank0.engine "
        "build/__pycache__/convert.cpython-311.pyc client/pika_tagger.egg-info/PKG-INFO model_repository/tagger/1/one_pass/task.pyc"
    )
    for name in [*out.split(), "build/convert.py", "client/pika_tagger/cli.py", "docker/entrypoint.sh"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert context_of(tmp_path) == {"build/convert.py", "client/pika_tagger/cli.py", "docker/entrypoint.sh"}


def test_packages_are_those_of_the_pipeline(image: Image) -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (image.home / "requirements" / "pipeline.txt").read_text(), re.MULTILINE))
    names = {line for line in (image.home / "docker" / "packages.txt").read_text().splitlines() if not line.startswith("#")}
    assert names <= pins.keys()
    assert not names & {*IN_NVIDIAS_IMAGE}


def test_engine_and_repository_are_built_from_what_is_in_the_image(image: Image, built: Path) -> None:
    record = json.loads((built / "tensorrt_llm" / "1" / "engine" / "engine_record.json").read_text())
    assert (record["built_in"], record["machine"]["gpu"], record["target"]) == ("in place", "NVIDIA L4", "l4")
    assert manifest.verify_contents(built).stage == "model_repository"
    assert laid_out(image) <= image.files  # all the rest of the file system is read-only


def test_a_second_run_builds_nothing_anew(image: Image, built: Path) -> None:
    before = manifest.read(built.with_name("engine-l4")).finished_utc, (built / "manifest.json").stat().st_mtime_ns
    done = image.run(*engine_command("l4"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (manifest.read(built.with_name("engine-l4")).finished_utc, (built / "manifest.json").stat().st_mtime_ns) == before


@pytest.fixture
def server(image: Image, repository: Path) -> Iterator["subprocess.Popen[str]"]:
    with image.container(repository, "serve", "--log-verbose=1", PIKA_ADMIN_KEY="known") as process:
        yield process


def started(process: "subprocess.Popen[str]") -> list[str]:
    """The words with which the server says that it has started."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr and process.stderr.read()
    return line.split()


def test_the_server_gets_the_signals_and_its_status_is_passed_on(server: "subprocess.Popen[str]") -> None:
    assert started(server)[2] == "false"  # the tagger's tokenizer is to start no threads
    server.send_signal(signal.SIGTERM)
    assert server.communicate(timeout=PATIENCE_S)[0] == "told to stop\n"
    assert server.returncode == 7


def test_a_server_that_is_killed_ends_the_container_with_the_reason(server: "subprocess.Popen[str]") -> None:
    os.kill(int(started(server)[1]), signal.SIGKILL)
    assert "docker starts the container again" in server.communicate(timeout=PATIENCE_S)[1]
    assert server.returncode == 128 + signal.SIGKILL


def test_the_servers_flags_are_those_of_the_other_target(server: "subprocess.Popen[str]", repository: Path) -> None:
    flags = set(started(server)[3:])
    parts = triton.Installation(Path(), Path(), Path(), ())
    others = set(triton.command(parts, Path("/tmp/abc"), repository, Ports(), Access(admin_key="known"))[1:])
    own_to_the_cpu = {
        "--allow-gpu-metrics=false",
        "--backend-directory=/tmp/abc/backends",
        "--backend-config=python,shm-region-prefix-name=abc-",
    } | {flag for flag in others if "-address=" in flag or "http" in flag}
    own_to_containers = {"--grpc-address=0.0.0.0", "--metrics-address=0.0.0.0", "--allow-http=false", "--log-verbose=1"}
    assert flags == (others - own_to_the_cpu) | own_to_containers


def test_without_a_key_of_ones_own_nobody_knows_it(image: Image, repository: Path) -> None:
    keys = set()
    for _ in range(2):
        with image.container(repository, "serve", PIKA_ADMIN_KEY="") as process:
            (flag,) = [word for word in started(process) if "restricted" in word]
            keys.add(flag.rpartition(":admin-key=")[2])
    assert len(keys) == 2
    assert min(map(len, keys)) >= 36


def test_tritonserver_knows_every_flag(server: "subprocess.Popen[str]") -> None:
    installed = triton.installation()
    line = [str(installed.server), "--help"]
    usage = subprocess.run(line, env=triton.environment(installed, Path()), capture_output=True, text=True, check=False)
    known = set(re.findall(r"--[a-z-]+", usage.stdout + usage.stderr))
    assert {flag.partition("=")[0] for flag in started(server)[3:]} <= known


def refusal(image: Image, repository: Path, **more: str) -> str:
    """What the entrypoint says when it refuses to start the server."""
    status, out, err = image.ended(repository, "serve", **more)
    assert (status, out) == (1, "")
    return err


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({"GPU": "NVIDIA GeForce RTX 3090, 8.6, 570.124.06"}, "GPU: built with NVIDIA L4, here is NVIDIA GeForce RTX 3090"),
        ({"GPU": "NVIDIA L4, 8.9, 535.230.02"}, "driver branch: built with 570, here is 535"),
        ({"VERSIONS": "1.2.1 10.11.0.33"}, "TensorRT-LLM: built with 1.0.0, here is 1.2.1"),
        ({"VERSIONS": "1.0.0 10.14.1.48"}, "TensorRT: built with 10.11.0.33, here is 10.14.1.48"),
    ],
)
def test_an_engine_for_another_machine_never_reaches_the_server(
    image: Image, repository: Path, machine: dict[str, str], words: str
) -> None:
    assert words in refusal(image, repository, **machine)


@pytest.mark.parametrize(
    "name", ["tensorrt_llm/1/engine/rank0.engine", "tagger/1/tokenizer.json", "tensorrt_llm/1/engine/engine_record.json"]
)
def test_a_repository_that_is_not_whole_never_reaches_the_server(image: Image, repository: Path, name: str) -> None:
    path = repository / name
    path.write_bytes(path.read_bytes()[:5])
    assert Path(name).name in refusal(image, repository)
    path.unlink()
    assert Path(name).name in refusal(image, repository)


def test_without_a_gpu_it_is_told_so(image: Image, repository: Path) -> None:
    assert "nvidia-smi" in refusal(image, repository, GPU="No devices were found")


def test_the_servers_failure_is_the_containers(image: Image, repository: Path) -> None:
    status, out, _ = image.ended(repository, "serve", SERVER_FAILS="3")
    assert (status, out.split()[0]) == (3, "started")


def test_another_command_takes_over_the_process_without_a_check(image: Image, tmp_path: Path) -> None:
    with image.container(tmp_path / "no models", "sh", "-c", "echo $$; exit 9") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (9, f"{process.pid}\n", "")


def test_dockerfile_and_presets_speak_of_the_same_image() -> None:
    container, instructions = settings.container(), dockerfile()
    assert ["ARG", f"BASE_IMAGE={container.image}"] in instructions
    (variables,) = (words[1:] for words in instructions if words[0] == "ENV")
    assert f"PIKA_MODEL_REPOSITORY={container.model_repository}" in variables
