"""Commands that answer as those of another machine would: shell scripts in a folder that is to be the whole PATH."""

from dataclasses import dataclass
from pathlib import Path

from build import ROOT

ANSWERS = ROOT / "tests" / "data" / "nvidia_smi"


@dataclass(frozen=True)
class Commands:
    """The folder of the commands; without `installed` it has none."""

    folder: Path

    def installed(self, name: str, script: str) -> None:
        """Put a command there."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\necho "$0 $*" >> {self.folder}/asked\n{script}\n')
        path.chmod(0o755)

    def nvidia_smi(self, name: str) -> None:
        """The GPUs of a recorded machine."""
        self.installed("nvidia-smi", f'case "$*" in *--query-gpu=*) cat {ANSWERS}/{name}.csv ;; *) cat {ANSWERS}/{name}.txt ;; esac')

    def broken_nvidia_smi(self, name: str, status: int) -> None:
        """A failure, which nvidia-smi prints on stdout."""
        self.installed("nvidia-smi", f"cat {ANSWERS}/{name}.txt; exit {status}")

    def docker(self, info: str, has_image: bool) -> None:
        """A daemon that runs."""
        self.installed("docker", f"case \"$1\" in info) printf '%s\\n' '{info}' ;; *) exit {0 if has_image else 1} ;; esac")

    def asked(self) -> list[str]:
        """The command lines so far, with the names of the commands in front."""
        return [line.removeprefix(f"{self.folder}/") for line in (self.folder / "asked").read_text().splitlines()]
