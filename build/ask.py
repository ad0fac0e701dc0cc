"""Ask a command of this machine something, and never hang, raise or print because of it. Only the standard library is used."""

import subprocess
from dataclasses import dataclass

_PATIENCE_S = 20.0
"""nvidia-smi takes seconds where the driver has to be loaded first, and hangs on some broken ones."""


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        status: Its exit status; None if it could not be started or did not end.
        output: What it printed.
        errors: What it printed as errors, or why it could not be asked.
    """

    status: int | None
    output: str
    errors: str

    @property
    def ok(self) -> bool:
        """Whether the command ended well."""
        return self.status == 0

    @property
    def said(self) -> str:
        """Why it did not end well, on one line; errors, or what was printed instead of them."""
        return " ".join((self.errors.strip() or self.output).split()) or f"exit status {self.status}"


def ask(*command: str) -> Answer:
    """Run a command that only reads."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False
        )
    except FileNotFoundError:
        return Answer(None, "", f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"{command[0]} gave no answer within {_PATIENCE_S:.0f} s")
    except OSError as error:
        return Answer(None, "", f"{command[0]} cannot be run ({error.strerror})")
    return Answer(done.returncode, done.stdout, done.stderr)
