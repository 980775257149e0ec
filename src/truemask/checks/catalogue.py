"""All rules: which there are, which are chosen, what each is about, and their pages.

`python -m truemask.checks.catalogue docs/checks` writes the pages.
"""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from truemask.build import nearest
from truemask.checks.finding import Finding, Rule
from truemask.errors import UsageError
from truemask.files import make_folder, write_text

_MODULES = (
    "masks", "duplicates", "parts", "loaders", "losses", "weighting", "models", "metrics",
    "learning", "trivial", "tested", "fresh", "naming", "difference", "ending", "inputs",
)  # fmt: skip
"""The modules of this folder that have rules."""

SECTIONS = ("Why it matters", "How it decides", "False alarms", "How to mend")
"""What the docstring of every rule tells, after its summary."""

GROUPS = {
    "TM1": "Files and labels",
    "TM2": "Parts",
    "TM3": "Inputs",
    "TM4": "Losses",
    "TM5": "Models",
    "TM6": "Runs and metrics",
    "TM7": "Prediction",
}
"""The beginning of a code -> what it is about."""


@dataclass(frozen=True)
class Explanation:
    """The docstring of a rule, taken apart.

    Attributes:
        summary: what it finds, in one sentence.
        sections: heading -> text, in the order of `SECTIONS`.
    """

    summary: str
    sections: dict[str, str]


def rules() -> tuple[Rule, ...]:
    """All rules, by code."""
    found: list[Rule] = []
    for name in _MODULES:
        if importlib.util.find_spec(f"truemask.checks.{name}") is None:
            continue
        found += importlib.import_module(f"truemask.checks.{name}").RULES
    return tuple(sorted(found, key=lambda rule: rule.code))


def find_rule(code: str) -> Rule:
    """The rule of a code such as "TM401", or of a name such as "no-gradient".

    Raises:
        UsageError: there is none; names the nearest.
    """
    known = {key: rule for rule in rules() for key in (rule.code, rule.name)}
    wanted = code.upper() if code.upper() in known else code.lower()
    if wanted not in known:
        hint = nearest(wanted, list(known))
        raise UsageError(f"there is no check {code!r}{hint}: `truemask list` shows all")
    return known[wanted]


@dataclass(frozen=True)
class Selection:
    """Which rules count: those of `select`, without those of `ignore`.

    Both hold codes, beginnings of codes ("TM4") or names of rules; the longer one decides where
    both hold a rule, as a linter's do.

    Raises:
        UsageError: one of them is the beginning of no code and no name.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("select", "ignore"):
            object.__setattr__(self, key, tuple(map(_as_prefix, getattr(self, key))))

    @classmethod
    def of(
        cls, select: str | Sequence[str] | None, ignore: str | Sequence[str] | None
    ) -> "Selection":
        """From lists, or from text with commas as the command line has it."""
        return cls(_split(select), _split(ignore))

    def takes(self, code: str) -> bool:
        """Whether a rule counts."""
        chosen = max((len(p) for p in self.select if code.startswith(p)), default=-1)
        left_out = max((len(p) for p in self.ignore if code.startswith(p)), default=-1)
        if self.select and chosen < 0:
            return False
        return chosen > left_out or left_out < 0

    def takes_any(self, *prefixes: str) -> bool:
        """Whether any rule counts whose code begins with one of `prefixes`."""
        return any(self.takes(rule.code) for rule in rules() if rule.code.startswith(prefixes))

    def apply(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings that count, in their order."""
        return [finding for finding in findings if self.takes(finding.code)]


def _split(words: str | Sequence[str] | None) -> tuple[str, ...]:
    listed = [words] if isinstance(words, str) else list(words or ())
    return tuple(item.strip() for word in listed for item in word.split(",") if item.strip())


def _as_prefix(word: str) -> str:
    if any(rule.code.startswith(word.upper()) for rule in rules()):
        return word.upper()
    return find_rule(word).code


def explain(rule: Rule) -> Explanation:
    """What a rule's docstring says.

    Raises:
        ValueError: it has no summary, or lacks one of `SECTIONS`.
    """
    headings = "|".join(SECTIONS)
    text = inspect.cleandoc(rule.explanation)
    pieces = re.split(rf"^({headings}):[ \t]*", text, flags=re.MULTILINE)
    summary, found = pieces[0].strip(), dict(zip(pieces[1::2], pieces[2::2], strict=True))
    missing = [name for name in SECTIONS if not found.get(name, "").strip()]
    if missing or not summary:
        raise ValueError(f"the docstring of {rule.code} lacks {', '.join(missing) or 'a summary'}")
    return Explanation(summary, {name: _outdented(found[name]) for name in SECTIONS})


def _outdented(text: str) -> str:
    """A section's text without its indentation; its first line may stand beside the heading."""
    plain = inspect.cleandoc(text).strip()
    return plain[:1].upper() + plain[1:]


def page(rule: Rule) -> str:
    """The page of a rule, in Markdown."""
    told = explain(rule)
    group = GROUPS[rule.code[:3]]
    parts = [
        f"# {rule.code} {rule.name}",
        f"{group}, level **{rule.level}** unless its finding says otherwise.",
        told.summary,
    ]
    for name, text in told.sections.items():
        parts += [f"## {name}", text]
    parts.append(
        f"Leave it out with `truemask check --ignore {rule.code}`. [All checks](README.md)"
    )
    return "\n\n".join(parts) + "\n"


def index(found: Sequence[Rule]) -> str:
    """The page of all rules."""
    lines = [
        "# The checks",
        "",
        "Each finds a silent bug: one after which training still runs and a number still comes "
        "out. An **error** makes a figure wrong, a **warning** probably does, a **note** is worth "
        "knowing. These pages are written from the docstrings of the checks by "
        "`python -m truemask.checks.catalogue docs/checks`.",
    ]
    for prefix, title in GROUPS.items():
        group = [rule for rule in found if rule.code.startswith(prefix)]
        if group:
            lines += ["", f"## {title}", "", "| code | name | level | finds |", "|---|---|---|---|"]
        for rule in group:
            summary = " ".join(explain(rule).summary.split()).replace("|", "\\|")
            lines.append(
                f"| [{rule.code}]({rule.code}.md) | {rule.name} | {rule.level} | {summary} |"
            )
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """File name -> content, of all pages."""
    found = rules()
    return {"README.md": index(found), **{f"{rule.code}.md": page(rule) for rule in found}}


def write_pages(folder: Path) -> list[Path]:
    """Write all pages, and delete those of rules that are no more."""
    make_folder(folder)
    wanted = pages()
    for file in folder.glob("TM*.md"):
        if file.name not in wanted:
            file.unlink()
    for name, text in wanted.items():
        write_text(folder / name, text)
    return [folder / name for name in wanted]


if __name__ == "__main__":
    for path in write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/checks")):
        print(path)
