"""Findings as lines to read: in colour on a terminal, plain anywhere else."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from truemask.checks.finding import LEVELS, Finding, Level, worst_first
from truemask.checks.outcome import Outcome

STYLES: Mapping[Level, str] = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}

_MOST_EVIDENCE = 8
_MOST_ITEMS = 5


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """All findings, the worst first: code, place, what is wrong, what shows it, how to mend it."""
    ordered = worst_first(findings)
    for level in LEVELS:
        for finding in [finding for finding in ordered if finding.level == level]:
            _print_finding(finding, console)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """The findings, how far the checks went, and a last line with counts and seconds."""
    print_findings(outcome.findings, console)
    if not outcome.findings:
        for line in outcome.checked:
            console.print(Text.assemble(("checked ", "green"), _clean(line)), highlight=False)
    for line in outcome.skipped:
        console.print(Text.assemble(("not checked ", "dim"), _clean(line)), highlight=False)
    style = next((STYLES[level] for level in LEVELS if outcome.count(level)), "bold green")
    words = outcome.summary.capitalize()
    console.print(
        Text.assemble((words, style), f" in {outcome.seconds:.1f} s"),
        highlight=False,
        soft_wrap=True,
    )


def as_text(findings: Iterable[Finding], *, width: int = 100) -> str:
    """The same as plain text, as an assertion or a log file shows it."""
    stream = io.StringIO()
    print_findings(findings, Console(file=stream, width=width, color_system=None))
    return stream.getvalue().rstrip()


def _print_finding(finding: Finding, console: Console) -> None:
    head = Text.assemble(
        (f"{finding.level}[{finding.code}]", STYLES[finding.level]),
        (f" {finding.name}", "bold"),
    )
    if finding.where:
        head.append("  ").append(_clean(finding.where), "cyan")
    console.print(head, highlight=False)
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("", Text(_clean(finding.message)))
    for name, value in evidence_lines(finding.evidence):
        grid.add_row("|", Text.assemble((f"{_clean(name)}: ", "dim"), _clean(value)))
    grid.add_row("=", Text.assemble(("mend: ", "bold green"), _clean(finding.remedy)))
    console.print(Padding(grid, (0, 0, 1, 2)), highlight=False)


def evidence_lines(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what shows a finding, the first few, numbers with four digits."""
    shown = [(name.replace("_", " "), _value(item)) for name, item in evidence.items()]
    more = len(shown) - _MOST_EVIDENCE
    return shown[:_MOST_EVIDENCE] + ([("and", f"{more} more in the JSON")] if more > 0 else [])


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return _listed([f"{name} {_value(item)}" for name, item in value.items()])
    if isinstance(value, list | tuple):
        return _listed([_value(item) for item in value])
    return f"{value:,}" if isinstance(value, int) else str(value)


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _MOST_ITEMS
    return ", ".join(items[:_MOST_ITEMS]) + (f" and {more} more" if more > 0 else "")


def _clean(text: str) -> str:
    """Names from files may hold escape sequences, which are no business of the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
