"""What the benchmark is made of: faults, sound controls, and what came out of each."""

import random
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import torch

from truemask.checks.finding import Finding

Strength = Literal["weak", "realistic", "strong"]
STRENGTHS: tuple[Strength, ...] = ("weak", "realistic", "strong")

Check = Callable[[], list[Finding]]
"""Runs the check on what was prepared; its seconds are counted."""

Prepare = Callable[[], Check]
"""Makes the experiment; its seconds are not counted."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault at one strength in one experiment.

    Attributes:
        row: of the list of what must be found.
        code: the rule that must report it.
        name: what is wrong, the same at every strength.
        strength: how much of it.
        detail: what the strength means here.
        base: the sound experiment that it is injected into.
        prepare: injects it.
        also: other codes that name the same fault rightly.
    """

    row: int
    code: str
    name: str
    strength: Strength
    base: str
    prepare: Prepare
    detail: str = ""
    also: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What tells it from all others."""
        detail = f" [{self.detail}]" if self.detail else ""
        return f"{self.code} {self.name} / {self.strength} / {self.base}{detail}"


@dataclass(frozen=True, kw_only=True)
class Control:
    """A sound experiment, in which nothing may be reported.

    Attributes:
        kind: such as "loss".
        name: what it is.
        prepare: makes it.
        real: codes of findings that are true of it.
    """

    kind: str
    name: str
    prepare: Prepare
    real: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What tells it from all others."""
        return f"control {self.kind}: {self.name}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A bug of a published project, rebuilt from its description.

    Attributes:
        project: its short name.
        name: what fooled the project.
        codes: any of them names the bug.
        prepare: makes the experiment.
    """

    project: str
    name: str
    codes: tuple[str, ...]
    prepare: Prepare

    @property
    def title(self) -> str:
        """What tells it from all others."""
        return f"published {self.project}: {self.name}"


Case = Fault | Control | Published


@dataclass(frozen=True)
class Outcome:
    """What a case came to.

    Attributes:
        case: the fault or the control.
        findings: what was reported.
        seconds: of the check alone.
        trouble: the traceback where the check raised, otherwise empty.
    """

    case: Case
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    trouble: str = ""

    @property
    def codes(self) -> list[str]:
        """Reported codes, each once."""
        return sorted({finding.code for finding in self.findings})

    @property
    def good(self) -> bool:
        """Whether a fault was found by name; whether nothing was said of a sound control."""
        if self.trouble:
            return False
        match self.case:
            case Control():
                return not self.alarms
            case Fault():
                return bool({self.case.code, *self.case.also} & set(self.codes))
            case Published():
                return bool(set(self.case.codes) & set(self.codes))

    @property
    def alarms(self) -> list[Finding]:
        """Errors and warnings that are not true of a control."""
        real = self.case.real if isinstance(self.case, Control) else ()
        loud = (found for found in self.findings if found.level != "note")
        return [found for found in loud if found.code not in real]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        case = {key: value for key, value in vars(self.case).items() if key != "prepare"}
        return {
            **case,
            "type": type(self.case).__name__,
            "title": self.case.title,
            "good": self.good,
            "seconds": round(self.seconds, 3),
            "trouble": self.trouble,
            "findings": [found.to_json() for found in self.findings],
        }


def from_json(value: dict[str, Any]) -> Outcome:
    """The inverse of `Outcome.to_json`; the case cannot be run again."""
    types: dict[str, type[Case]] = {kind.__name__: kind for kind in (Fault, Control, Published)}
    kind = types[value["type"]]
    given = {f.name: value[f.name] for f in fields(kind) if f.name != "prepare"}
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}

    def prepare() -> Check:
        raise NotImplementedError("read from a file")

    findings = tuple(Finding(**found) for found in value["findings"])
    case = kind(**plain, prepare=prepare)
    return Outcome(case, findings, value["seconds"], value["trouble"])


def run(case: Case) -> Outcome:
    """Prepare a case and run its check, from the same random state whatever ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the code under test may draw from the global state
    torch.manual_seed(0)
    start = time.perf_counter()
    try:
        check = case.prepare()
        start = time.perf_counter()
        findings = check()
    except Exception:
        return Outcome(case, (), time.perf_counter() - start, traceback.format_exc(limit=-4))
    return Outcome(case, tuple(findings), time.perf_counter() - start)


@dataclass
class Tally:
    """How many of some faults were found."""

    found: int = 0
    total: int = 0
    missed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.total += 1
        self.found += outcome.good
        if not outcome.good:
            self.missed.append(outcome)

    def __str__(self) -> str:
        return f"{self.found} / {self.total}" if self.total else ""


def tally(outcomes: Iterable[Outcome]) -> Tally:
    """Count all."""
    result = Tally()
    for outcome in outcomes:
        result.add(outcome)
    return result
