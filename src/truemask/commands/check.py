"""`truemask check`: its grammar, what it looks at, and how it shows what it found."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from truemask.commands.output import print_json
from truemask.commands.words import folder_and_overrides
from truemask.errors import UsageError

# The command line starts fast: what imports PyTorch stands inside the functions.
if TYPE_CHECKING:
    from truemask.checks.catalogue import Selection
    from truemask.checks.outcome import Outcome

HELP = "Look for silent bugs in data, code or a run; 1 if there is one."
EXAMPLES = (
    "truemask check photos/                        a folder, before training on it\n"
    "truemask check experiment=driving/best data.dataset.root=/data/bdd\n"
    "truemask check runs/photos/DATE               a run; two runs: whether they differ\n"
    "truemask check photos/ --select TM1,TM202 --ignore TM112\n"
    "truemask check --loss my_losses:FocalLoss --num-classes 5 --weight 1,2,2,8,4\n"
    "truemask check --model nets:unet --dataset data:parts --num-classes 11\n"
    "truemask check --explain TM401"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument(
        "words", nargs="*", default=[], metavar="[DATA_FOLDER | RUN ...] [key=value ...]"
    )
    command.add_argument(
        "--select", action="append", default=[], metavar="CODE,...", help="only these: TM4, TM101"
    )
    command.add_argument("--ignore", action="append", default=[], metavar="CODE,...")
    command.add_argument("--explain", metavar="CODE", help="all about one check")
    command.add_argument(
        "--format", choices=("text", "json", "sarif"), default="text", help="default: text"
    )
    own = command.add_argument_group("code of your own, as module:function in this folder")
    for thing in ("loss", "metric", "model", "dataset"):
        own.add_argument(f"--{thing}", metavar="MODULE:NAME")
    own.add_argument("--num-classes", type=int, metavar="K")
    own.add_argument(
        "--ignore-index", default="255", metavar="ID", help="default: 255; none for none"
    )
    own.add_argument("--weight", metavar="W,W,...", help="what the loss's class weights should be")
    own.add_argument("--target", choices=("index", "float", "one_hot"), default="index")
    own.add_argument(
        "--probabilities", action="store_true", help="the loss takes probabilities, not logits"
    )
    own.add_argument("--channels", type=int, default=3, metavar="C", help="of made-up images")


def run(options: argparse.Namespace) -> int:
    """Check, print, and give the exit code: 1 where there is an error."""
    from truemask.checks.catalogue import Selection
    from truemask.checks.terminal import print_outcome

    if options.explain:
        return _explain(options)
    selection = Selection.of(options.select, options.ignore)
    outcome = _look(options, selection)
    outcome.findings = selection.apply(outcome.findings)
    form = "json" if options.json else options.format
    if form == "text":
        print_outcome(outcome, _console())
    elif form == "json":
        print_json(outcome.to_json())
    else:
        from truemask.checks.sarif import to_sarif

        print_json(to_sarif(outcome.findings))
    return 1 if outcome.count("error") else 0


def _look(options: argparse.Namespace, selection: "Selection") -> "Outcome":
    own = any(getattr(options, key) for key in ("loss", "metric", "model", "dataset"))
    if own:
        if options.words:
            raise UsageError(
                f"{options.words[0]!r} is not looked at beside code of your own: leave it out"
            )
        return _own_code(options)
    from truemask.run_search import is_run

    runs = [Path(word) for word in options.words if is_run(Path(word))]
    if runs:
        if len(runs) != len(options.words):
            other = next(word for word in options.words if Path(word) not in runs)
            raise UsageError(f"{other!r} is no run: give runs only, or one folder of data")
        return _runs(runs)
    folder, overrides = folder_and_overrides(options.words)
    return _experiment(folder, overrides, selection, options.console)


def _runs(paths: Sequence[Path]) -> "Outcome":
    from itertools import combinations

    from truemask.checks.difference import check_difference
    from truemask.checks.outcome import Outcome
    from truemask.checks.run import check_run
    from truemask.runs import Run

    outcome = Outcome()
    for path in paths:
        outcome.run(f"the run {path}", lambda path=path: check_run(path))  # type: ignore[misc]
        if not Run(path).trivial_path.exists():
            outcome.skip(f"the best constant map of {path}", "the run was made without checks")
    for one, other in combinations(paths, 2):
        outcome.run(
            f"the difference of {one} and {other}",
            lambda one=one, other=other: check_difference(one, other),  # type: ignore[misc]
        )
    return outcome


def _experiment(
    folder: Path | None, overrides: list[str], selection: "Selection", console: Console
) -> "Outcome":
    from truemask.commands.plan import planned, plans
    from truemask.compose import compose_config
    from truemask.training.fit import check

    if folder is None and not overrides:
        raise UsageError(
            "give what to check: a data folder, experiment=NAME, a run, or code of your own by "
            "--loss, --model, --metric, --dataset"
        )
    opened = None
    try:
        if plans(overrides, folder=folder):  # what `train` would run
            plan, config = planned(overrides, folder=folder, console=console)
            opened = plan.opened
        else:
            config = compose_config(overrides, folder=folder)
        return check(config, selection=selection, console=console, opened=opened)
    except UsageError as error:
        if folder is None:
            raise
        return _files(folder, error)


def _files(folder: Path, error: UsageError) -> "Outcome":
    """The files alone, where a training could not even open them: that is what was asked about.

    Raises:
        UsageError: the files are as they should be, so the fault lies elsewhere.
    """
    from truemask import checks
    from truemask.checks.outcome import Outcome

    outcome = Outcome()
    outcome.run(f"the files of {folder}", lambda: checks.check_masks(folder))
    if not outcome.count("error"):
        raise error
    outcome.skip("loss, model and parts", f"the data cannot be opened: {error}")
    return outcome


def _own_code(options: argparse.Namespace) -> "Outcome":
    from truemask.checks.own_code import OwnCode, check_own_code

    return check_own_code(
        OwnCode(
            loss=options.loss,
            metric=options.metric,
            model=options.model,
            dataset=options.dataset,
            num_classes=options.num_classes,
            ignore_index=_ignored(options.ignore_index),
            weight=_numbers(options.weight),
            target=options.target,
            from_logits=not options.probabilities,
            channels=options.channels,
        )
    )


def _ignored(text: str) -> int | None:
    if text.lower() == "none":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"--ignore-index is {text!r}: give an id, or none") from error


def _numbers(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--weight is {text!r}: give numbers with commas, one a class") from error


def _explain(options: argparse.Namespace) -> int:
    from rich.markdown import Markdown

    from truemask.checks.catalogue import explain, find_rule, page

    rule = find_rule(options.explain)
    if options.json or options.format == "json":
        told = explain(rule)
        print_json(
            {
                "code": rule.code,
                "name": rule.name,
                "level": rule.level,
                "summary": " ".join(told.summary.split()),
                **{name.lower().replace(" ", "_"): text for name, text in told.sections.items()},
            }
        )
    elif sys.stdout.isatty():
        _console().print(Markdown(page(rule)))
    else:
        print(page(rule), end="")
    return 0


def _console() -> Console:
    """Standard output, whose width matters on a terminal only."""
    return Console(width=None if sys.stdout.isatty() else 100)
