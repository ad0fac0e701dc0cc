"""What `verify` found: one line a check, the same as JSON, verdict and exit status. What is looked at is in `build.verify_checks`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a check came out."""

    PASS = "pass"
    FAIL = "fail"
    NOT_ASKED = "not asked"
    """It should be known and could not be asked: there is no verdict without it, unless something else failed."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        outcome: How it came out.
        found: What was found, and where it is wrong, what to do.
        figures: The same as numbers.
    """

    name: str
    outcome: Outcome
    found: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All findings about one model on one target."""

    model: str
    target: str
    findings: Sequence[Finding]

    @property
    def verdict(self) -> Outcome:
        """FAIL if anything failed, else NOT_ASKED if anything could not be asked, else PASS."""
        outcomes = {finding.outcome for finding in self.findings}
        return next((worst for worst in (Outcome.FAIL, Outcome.NOT_ASKED) if worst in outcomes), Outcome.PASS)

    @property
    def exit_status(self) -> int:
        """0 pass, 1 fail, 2 no verdict."""
        return {Outcome.PASS: 0, Outcome.FAIL: 1}.get(self.verdict, 2)

    def text(self) -> str:
        """One line a check, and the verdict."""
        width = max(len(finding.name) for finding in self.findings)
        lines = [f"{finding.outcome:<9}  {finding.name:<{width}}  {finding.found}" for finding in self.findings]
        names = {outcome: ", ".join(f.name for f in self.findings if f.outcome is outcome) for outcome in Outcome}
        verdict = {
            Outcome.PASS: "PASS: this is the engine of this checkpoint",
            Outcome.FAIL: f"FAIL: {names[Outcome.FAIL]}; docs/verify.md says what to try",
        }.get(self.verdict, f"NO VERDICT: {names[Outcome.NOT_ASKED]} could not be asked")
        return "\n".join([*lines, f"model={self.model} target={self.target} {verdict}"])

    def json(self) -> str:
        """The same for programs."""
        findings = [asdict(finding) for finding in self.findings]
        report = {"model": self.model, "target": self.target, "verdict": self.verdict, "findings": findings}
        return json.dumps(report, indent=2, ensure_ascii=False)
