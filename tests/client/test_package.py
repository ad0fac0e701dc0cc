"""What robots may rely on, and what importing the library costs."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import pika_tagger


def test_public_names_are_these_and_no_others() -> None:
    assert pika_tagger.__all__ == [
        "AccessDeniedError",
        "AsyncTaggerClient",
        "ClientClosedError",
        "Counts",
        "Dialogue",
        "InvalidRequestError",
        "InvalidSettingError",
        "ServerBusyError",
        "ServerError",
        "ServerInfo",
        "Tag",
        "TaggerClient",
        "TaggerConnectionError",
        "TaggerError",
        "TaggerTimeoutError",
        "Tls",
        "VersionWarning",
    ]
    assert all(hasattr(pika_tagger, name) for name in pika_tagger.__all__)


def test_every_error_is_a_tagger_error() -> None:
    errors = [getattr(pika_tagger, name) for name in pika_tagger.__all__ if name.endswith("Error")]
    assert all(issubclass(error, pika_tagger.TaggerError) for error in errors)
    assert issubclass(pika_tagger.InvalidSettingError, ValueError)


def test_importing_the_library_imports_nothing_heavy() -> None:
    script = "import json, sys, pika_tagger, pika_tagger.cli; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=_environment())
    loaded = {name.split(".")[0] for name in json.loads(shown.stdout)}
    assert not loaded & {"torch", "pandas", "transformers", "onnxruntime", "matplotlib", "scipy", "rich", "tqdm", "requests", "gevent"}


def test_the_package_carries_its_type_marker() -> None:
    assert Path(pika_tagger.__file__).with_name("py.typed").exists()


def test_the_installed_distribution_has_the_version_of_the_code() -> None:
    try:
        installed = metadata.version("pika-tagger")
    except metadata.PackageNotFoundError:
        pytest.skip("pika-tagger is not installed, only on the path")
    assert installed == pika_tagger.__version__


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(pika_tagger.__file__).parent.parent)}
