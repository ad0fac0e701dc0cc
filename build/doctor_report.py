"""What the doctor found: one line a check, the same as JSON, and whether the target can work. What is looked at is in `build.doctor`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """Something may go wrong, or is wrong but not needed for this target."""
    PROBLEM = "problem"
    """The target cannot work like this."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        state: How it came out.
        found: What is there.
        fix: What to do about it; empty where there is nothing to do.
    """

    name: str
    state: State
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        """Keep our promise that nobody is told of a problem without a fix."""
        if self.state is State.PROBLEM and not self.fix:
            raise ValueError(f"the check {self.name!r} names a problem and no fix")

    def line(self, name_width: int) -> str:
        """The check on one line."""
        fix = f" -> {self.fix}" if self.fix else ""
        return f"{self.state:<8} {self.name:<{name_width}}  {self.found}{fix}"


@dataclass(frozen=True)
class Report:
    """All that was found for one model on one target."""

    model: str
    target: str
    checks: Sequence[Check]

    @property
    def works(self) -> bool:
        """Whether nothing stands in the target's way."""
        return all(check.state is not State.PROBLEM for check in self.checks)

    def text(self) -> str:
        """One line a check, and the verdict."""
        width = max(len(check.name) for check in self.checks)
        problems = [check.name for check in self.checks if check.state is State.PROBLEM]
        verdict = "can work on this machine" if self.works else f"cannot work on this machine yet: {', '.join(problems)}"
        return "\n".join([*(check.line(width) for check in self.checks), f"model={self.model} target={self.target} {verdict}"])

    def json(self) -> str:
        """The same for programs."""
        report = {"model": self.model, "target": self.target, "works": self.works, "checks": [asdict(check) for check in self.checks]}
        return json.dumps(report, indent=2, ensure_ascii=False)
