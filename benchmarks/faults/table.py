"""The table: detection by row and strength, published bugs, controls, seconds."""

from collections.abc import Sequence

from benchmarks.faults.case import STRENGTHS, Control, Fault, Outcome, Published, tally

ROWS = {
    1: "unreadable, truncated and unpaired files",
    2: "sizes, EXIF orientation, misaligned pairs",
    3: "masks through JPEG or smooth resizing",
    4: "ids outside the table, colours read as ids",
    5: "foreground 255 that is also ignored",
    6: "absent classes, ignored images",
    7: "imbalance under a plain loss",
    8: "a common class missing, a class out of place",
    9: "the same label at the same place everywhere",
    10: "objects lost by resizing",
    11: "duplicates and neighbours across parts",
    12: "unlike and too small parts",
    13: "wrong scaling of images",
    14: "channels swapped",
    15: "augmentation without the mask",
    16: "padding that counts",
    17: "no gradient",
    18: "wrong activation around a loss",
    19: "class weights: no effect, order, meaning, ignored id",
    20: "ignored pixels in the loss, NaN",
    21: "mixed axes",
    22: "a perfect prediction does not lose least",
    23: "output of a wrong shape, or shifted",
    24: "a final activation before a loss that has one",
    25: "a module with state used twice",
    26: "parameters that do not learn",
    27: "samples of a batch that influence each other",
    28: "norm over one value, bias before a norm",
    29: "small receptive field",
    30: "initial loss, batch that cannot be overfitted",
    31: "collapse, NaN, no learning",
    32: "a trivial score",
    33: "other weights tested",
    34: "state of an earlier run",
    35: "a name that contradicts the settings",
    36: "metrics that count wrongly",
    37: "a difference within chance",
    38: "not finished, overfitted",
    39: "an input unlike the training images",
}


def page(outcomes: Sequence[Outcome], *, cases: int, note: str = "") -> str:
    """All tables as Markdown; `cases` is how many there are, run or not."""
    parts = [_INTRODUCTION, _summary(outcomes, cases, note), _by_row(outcomes), _by_fault(outcomes)]
    parts += [_published(outcomes), _controls(outcomes), _missed(outcomes)]
    return "\n\n".join(part for part in parts if part) + "\n"


_INTRODUCTION = """# The fault benchmark

`python -m benchmarks.faults` injects every fault that the checks promise to find, one at a time,
into sound experiments, at three strengths, and counts how many are found *by name*: the code of the
right rule must be among the findings. It also checks sound experiments, in which no error and no
warning may be reported. Most faults, strengths and sound controls were written down without reading
the checks; losses, models, datasets and metrics are plain PyTorch code in the styles that
people write.
This page is its output (`--markdown docs/checks/benchmark.md`); `--only TM4` runs a part of it,
`--out results.json` keeps every finding.

The experiments are the five published projects' miniatures (`truemask sample`), generated textures,
and, where they are at hand, CamVid, CrackForest and BSDS500. "Realistic" is what happens to people;
"weak" is the least of it that still changes a figure; "strong" cannot be overlooked in a picture.
Seconds are of the check alone, with one thread."""


def _faults(outcomes: Sequence[Outcome]) -> list[tuple[Fault, Outcome]]:
    return [(o.case, o) for o in outcomes if isinstance(o.case, Fault)]


def _summary(outcomes: Sequence[Outcome], cases: int, note: str) -> str:
    faults = _faults(outcomes)
    lines = ["| | found | of | share |", "|---|---|---|---|"]
    for name, chosen in (
        ("all faults", [o for _, o in faults]),
        *((s, [o for f, o in faults if f.strength == s]) for s in STRENGTHS),
        ("published bugs", [o for o in outcomes if isinstance(o.case, Published)]),
    ):
        count = tally(chosen)
        if count.total:
            share = f"{count.found / count.total:.1%}"
            lines.append(f"| {name} | {count.found} | {count.total} | {share} |")
    kinds = len({(f.row, f.code, f.name) for f, _ in faults})
    controls = [o for o in outcomes if isinstance(o.case, Control)]
    clean = sum(o.good for o in controls)
    text = (
        f"{len(outcomes)} of {cases} cases were run for this page: {kinds} kinds of faults in "
        f"{len(faults)} cases; {len(controls)} sound controls, of which "
        f"{clean} got no error and no warning; the checks took "
        f"{sum(o.seconds for o in outcomes) / 60:.0f} minutes in all."
    )
    return "\n".join(["## Summary", "", text, *(["", note] if note else []), "", *lines])


def _cells(faults: Sequence[tuple[Fault, Outcome]]) -> str:
    counts = [tally(o for f, o in faults if f.strength == s) for s in STRENGTHS]
    times = [o.seconds for _, o in faults]
    return (
        " | ".join(str(count) for count in counts) + f" | {sum(times) / len(times):.2f} | "
        f"{max(times):.2f}"
    )


def _by_row(outcomes: Sequence[Outcome]) -> str:
    faults = _faults(outcomes)
    lines = [
        "## By row", "", "| row | what | weak | realistic | strong | mean s | most s |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row, what in ROWS.items():
        members = [(f, o) for f, o in faults if f.row == row]
        if members:
            lines.append(f"| {row} | {what} | {_cells(members)} |")
    return "\n".join(lines) if faults else ""


def _by_fault(outcomes: Sequence[Outcome]) -> str:
    faults = _faults(outcomes)
    names = dict.fromkeys((f.row, f.code, f.name) for f, _ in faults)
    lines = [
        "## By fault", "", "| code | fault | weak | realistic | strong | mean s | most s |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row, code, name in names:
        members = [(f, o) for f, o in faults if (f.row, f.code, f.name) == (row, code, name)]
        lines.append(f"| {code} | {name} | {_cells(members)} |")
    return "\n".join(lines) if faults else ""


def _published(outcomes: Sequence[Outcome]) -> str:
    found = [(o.case, o) for o in outcomes if isinstance(o.case, Published)]
    lines = ["## Published bugs", "", "| project | bug | found as |", "|---|---|---|"]
    for case, outcome in found:
        codes = [code for code in outcome.codes if code in case.codes]
        lines.append(f"| {case.project} | {case.name} | {', '.join(codes) or '**missed**'} |")
    return "\n".join(lines) if found else ""


def _controls(outcomes: Sequence[Outcome]) -> str:
    found = [(o.case, o) for o in outcomes if isinstance(o.case, Control)]
    lines = [
        "## Sound controls", "",
        "| kind | control | errors and warnings | true of it | notes | s |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for case, outcome in found:
        alarms = sorted({finding.code for finding in outcome.alarms})
        said = "raised" if outcome.trouble else ", ".join(alarms) or "none"
        real = sorted(set(case.real) & set(outcome.codes))
        notes = sorted({f.code for f in outcome.findings if f.level == "note"} - set(real))
        lines.append(
            f"| {case.kind} | {case.name} | {said} | {', '.join(real)} | {', '.join(notes)} | "
            f"{outcome.seconds:.2f} |"
        )
    return "\n".join(lines) if found else ""


def _missed(outcomes: Sequence[Outcome]) -> str:
    missed = [(f, o) for f, o in _faults(outcomes) if not o.good]
    lines = [
        "## Missed", "", "| code | fault | strength | what that is | experiment | said instead |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for fault, outcome in missed:
        said = "raised" if outcome.trouble else ", ".join(outcome.codes) or "nothing"
        lines.append(
            f"| {fault.code} | {fault.name} | {fault.strength} | {fault.detail} | {fault.base} | "
            f"{said} |"
        )
    return "\n".join(lines) if missed else ""
