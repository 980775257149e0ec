"""`python -m benchmarks.faults`: inject, check, count, print the table."""

import argparse
import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults import (
    controls,
    ending_faults,
    file_faults,
    input_faults,
    loader_faults,
    loss_faults,
    mask_faults,
    metric_faults,
    model_faults,
    part_faults,
    published,
    run_faults,
    table,
)
from benchmarks.faults.case import Case, Fault, Outcome, from_json, run
from benchmarks.faults.material import available


def cases() -> Iterator[Case]:
    """Everything, in the order of the rows; what needs absent images is left out."""
    there = {*available(), "functions", "modules", "torch", "weights", "models", "metrics", "runs"}
    modules = (
        file_faults, mask_faults, part_faults, loader_faults, loss_faults, model_faults,
        run_faults, ending_faults, metric_faults, input_faults,
    )  # fmt: skip
    for module in modules:
        yield from (fault for fault in module.faults() if fault.base in there)
    yield from published.published()
    yield from controls.controls()


def chosen(words: list[str]) -> list[Case]:
    """Cases whose title fits one of the regular expressions; all without any."""
    patterns = [re.compile(word) for word in words]
    return [c for c in cases() if not words or any(p.search(c.title) for p in patterns)]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 where a fault was missed or a sound experiment was blamed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="REGEX", help="such as TM4")
    parser.add_argument("--out", type=Path, metavar="results.json", help="every finding as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table as a page")
    parser.add_argument(
        "--with", nargs="+", type=Path, default=[], dest="earlier", metavar="results.json",
        help="outcomes of earlier runs, whose cases are not run again",
    )  # fmt: skip
    parser.add_argument("--note", default="", help="what else the page is to say of this run")
    parser.add_argument("--list", action="store_true", help="titles only")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # foreign code warns; that is not what is looked for here
    earlier = [from_json(item) for file in options.earlier for item in _read(file)]
    outcomes = list({outcome.case.title: outcome for outcome in earlier}.values())
    known = {outcome.case.title for outcome in outcomes}
    for case in chosen(options.only):
        if case.title in known:
            continue
        if options.list:
            print(case.title)
            continue
        outcome = run(case)
        outcomes.append(outcome)
        print(line(outcome), flush=True)
        if options.out is not None:
            content = [outcome.to_json() for outcome in outcomes]
            options.out.write_text(json.dumps(content, indent=1))
    if options.list:
        return 0
    page = table.page(outcomes, cases=sum(1 for _ in cases()), note=options.note)
    if options.markdown is not None:
        options.markdown.write_text(page)
    print(page)
    return int(not all(outcome.good for outcome in outcomes))


def _read(file: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(file.read_text())
    return content


def line(outcome: Outcome) -> str:
    """One case on one line."""
    mark = "ok    " if outcome.good else "RAISED" if outcome.trouble else "MISSED"
    if not isinstance(outcome.case, Fault) and mark == "MISSED" and outcome.alarms:
        mark = "ALARM "
    said = " ".join(f"{found.code}:{found.level[0]}" for found in outcome.findings)
    last = outcome.trouble.strip().splitlines()[-1] if outcome.trouble else said or "nothing"
    return f"{mark} {outcome.seconds:6.2f} s  {outcome.case.title} -> {last}"


if __name__ == "__main__":
    sys.exit(main())
