"""Programs that only tests of docker/ need, and that come with `make tools`; without them those tests are skipped and say so."""

import os
import shutil

import pytest

from build import ROOT

FOLDER = ROOT / ".tools" / "usr" / "bin"


def tool(name: str) -> str:
    """Path of a program; skips the test that asks for one that is neither in .tools/ nor on PATH."""
    found = shutil.which(name, path=os.pathsep.join([str(FOLDER), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} IS NOT THERE, so this is not checked: `make tools` fetches it")
    return found
