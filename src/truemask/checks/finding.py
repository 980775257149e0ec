"""What a check reports, and what a rule is: a code, a name, a level, and how it is found."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt8

Level = Literal["error", "warning", "note"]
"""An error makes a figure wrong, a warning probably does, a note is worth knowing."""

LEVELS: tuple[Level, ...] = get_args(Level)
"""From the worst on."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Evidence to look at.

    Attributes:
        caption: one line.
        pixels: (H, W, 3) RGB from 0 to 255.
    """

    caption: str
    pixels: UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault that a check found.

    Attributes:
        code: of the rule, such as "TM401"; `truemask check --explain TM401` tells all of it.
        name: of the rule, such as "no-gradient".
        level: how bad it is.
        message: one sentence that says what is wrong.
        evidence: the numbers and names that show it; plain JSON values.
        remedy: what to write or to do instead.
        where: the file, key, module or part that it is about.
        pictures: what shows it best; not in the JSON, a run keeps them as files.
    """

    code: str
    name: str
    level: Level
    message: str
    remedy: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    pictures: tuple[Picture, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        """On one short line, as a failed assertion shows it."""
        return f"<{self.code} {self.name} ({self.level}): {self.message}>"

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{self.code} {self.level}: {place}{self.message} {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "code": self.code,
            "name": self.name,
            "level": self.level,
            "message": self.message,
            "evidence": plain(self.evidence),
            "remedy": self.remedy,
            "where": self.where,
        }


def plain(value: Any) -> Any:
    """As JSON takes it: numbers of NumPy and PyTorch as numbers, NaN and infinity as words."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, str | bool | int | None):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


@dataclass(frozen=True)
class Rule:
    """One thing that is looked for. Calling it looks for it.

    Attributes:
        code: "TM" and three digits.
        name: a few words with hyphens between them.
        level: of its findings, unless they say otherwise.
        find: gives the findings; its docstring explains the rule: a summary line, then the
            sections "Why it matters:", "How it decides:", "False alarms:" and "How to mend:".
    """

    code: str
    name: str
    level: Level
    find: Callable[..., Iterable[Finding]]

    def __call__(self, *arguments: Any, **named: Any) -> list[Finding]:
        """Look for it."""
        return list(self.find(*arguments, **named))

    @property
    def explanation(self) -> str:
        """The docstring of the check."""
        return self.find.__doc__ or ""

    def finding(
        self,
        message: str,
        *,
        remedy: str,
        where: str = "",
        level: Level | None = None,
        evidence: Mapping[str, Any] | None = None,
        pictures: Iterable[Picture] = (),
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            code=self.code,
            name=self.name,
            level=level or self.level,
            message=message,
            evidence=dict(evidence or {}),
            remedy=remedy,
            where=where,
            pictures=tuple(pictures),
        )


def rule(code: str, name: str, level: Level) -> Callable[[Callable[..., Iterable[Finding]]], Rule]:
    """Make a function that gives findings a rule.

    ```python
    @rule("TM401", "no-gradient", "error")
    def no_gradient(probe: Probe) -> Iterator[Finding]:
        '''The loss gives the prediction no gradient. ...'''
        if ...:
            yield no_gradient.finding("...", remedy="...")
    ```
    """
    return lambda find: Rule(code, name, level, find)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By level, then by code, otherwise as they came."""
    return sorted(findings, key=lambda found: (LEVELS.index(found.level), found.code))
