"""Can this machine run the pipeline on target cpu? Run by `make` before anything is installed, so only the standard library is used.

Every requirement is checked and printed with its fix; the exit status is 1 if one fails.
"""

import platform
import shutil
import sys
import sysconfig
from pathlib import Path

NEEDED_DISK_BYTES = 6_000_000_000
NEEDED_GLIBC = (2, 35)


def libpython_folder() -> Path | None:
    """Where this Python's shared library is, which Triton's Python backend loads; None if it is nowhere."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    system = Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "")
    candidates = (Path(sysconfig.get_config_var("LIBDIR") or ""), Path(sys.base_prefix) / "lib", system)
    return next((folder for folder in candidates if (folder / name).is_file()), None)


def problems() -> list[str]:
    """What is wrong with this machine, each with its fix."""
    found = []
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        found.append(
            f"Python {platform.python_version()} was found, 3.11 or 3.12 is needed: give another one with `make PYTHON=python3.11 ...`"
        )
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        found.append(f"{platform.system()} on {platform.machine()} was found; the tritonserver wheel exists for Linux on x86_64 only")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split("."))) < NEEDED_GLIBC:
        needed = ".".join(map(str, NEEDED_GLIBC))
        found.append(f"{name or 'no glibc'} {version} was found, glibc {needed} is needed: Debian 12, Ubuntu 22.04 or newer")
    if libpython_folder() is None:
        short = f"{sys.version_info.major}.{sys.version_info.minor}"
        found.append(
            "this Python has no shared library, which Triton's Python backend needs: on Debian or Ubuntu "
            f"`apt-get install libpython{short}`, otherwise a Python built with --enable-shared"
        )
    free_bytes = shutil.disk_usage(Path(__file__).parent).free
    if free_bytes < NEEDED_DISK_BYTES:
        found.append(f"{free_bytes / 1e9:.1f} GB are free here, {NEEDED_DISK_BYTES / 1e9:.0f} GB are needed: make room")
    return found


if __name__ == "__main__":
    found = problems()
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1 if found else 0)
