"""Findings as SARIF 2.1.0, which code hosts and editors show beside the code they are about.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from truemask import __version__
from truemask.checks.catalogue import explain, rules
from truemask.checks.finding import Finding, Rule, worst_first

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(findings: Iterable[Finding]) -> dict[str, Any]:
    """One SARIF run: the rules, and a result for each finding, the worst first.

    A finding whose `where` is a file has that file as its physical location; a module, key or part
    is a logical one. The remedy is part of the message, since few viewers show fixes in words.
    """
    known = rules()
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "truemask",
                        "version": __version__,
                        "rules": [_rule(rule) for rule in known],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, known) for finding in worst_first(findings)],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    told = explain(rule)
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": " ".join(told.summary.split())},
        "fullDescription": {"text": told.sections["Why it matters"]},
        "help": {"text": told.sections["How to mend"]},
        "defaultConfiguration": {"level": rule.level},
    }


def _result(finding: Finding, known: Sequence[Rule]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": finding.level,
        "message": {"text": f"{finding.message} {finding.remedy}"},
        "properties": {"evidence": finding.to_json()["evidence"]},
    }
    place = next((i for i, rule in enumerate(known) if rule.code == finding.code), None)
    if place is not None:
        result["ruleIndex"] = place
    if finding.where:
        result["locations"] = [_location(finding.where)]
    return result


def _location(where: str) -> dict[str, Any]:
    """A file where there is one of that name, else the name of a thing."""
    try:
        is_file = Path(where).is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        return {"logicalLocations": [{"fullyQualifiedName": where}]}
    absolute = Path(where).is_absolute()
    uri = Path(where).as_uri() if absolute else quote(Path(where).as_posix())
    return {"physicalLocation": {"artifactLocation": {"uri": uri}}}
