"""What a whole check came to: its findings, what was looked at, and what was not and why."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from truemask.checks.finding import LEVELS, Finding, Level, worst_first
from truemask.errors import counted


@dataclass
class Outcome:
    """Findings of several checks, and how far they went.

    Attributes:
        findings: in the order in which they were found.
        checked: what was looked at, a few words each.
        skipped: what was not, each with its reason.
        seconds: how long it took.
    """

    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, what: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
        """Do one check, and keep what it says.

        Args:
            what: a few words on what it looks at.
            check: gives findings.
        """
        began = time.monotonic()
        found = list(check())
        self.seconds += time.monotonic() - began
        self.findings += found
        self.checked.append(what)
        return found

    def skip(self, what: str, why: str) -> None:
        """Say what is not looked at."""
        self.skipped.append(f"{what}: {why}")

    @property
    def worst_first(self) -> list[Finding]:
        """The findings by level, then by code."""
        return worst_first(self.findings)

    def count(self, level: Level) -> int:
        """How many findings there are of a level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def summary(self) -> str:
        """The numbers in a few words, such as "1 error, 2 warnings"."""
        return counts_in_words(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "findings": [finding.to_json() for finding in self.worst_first],
            "checked": self.checked,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
        }


def counts_in_words(findings: Iterable[Finding]) -> str:
    """Words such as "1 error, 2 warnings", or "nothing found"."""
    levels = [finding.level for finding in findings]
    parts = [counted(levels.count(level), level) for level in LEVELS if level in levels]
    return ", ".join(parts) or "nothing found"
