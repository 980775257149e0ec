"""`truemask explain`: what a run gets wrong, where, and how sure it is."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, add_split, allowed, evaluation_config, split_of
from truemask.errors import UsageError

HELP = "Look into a run: confusions, borders, sizes, positions, calibration, attention."
EXAMPLES = (
    "truemask explain runs/photos/DATE\n"
    "truemask explain runs/photos/DATE --split validation --images 500\n"
    "truemask explain runs/photos/DATE --calibrate       probabilities that mean what they say\n"
    "truemask explain runs/photos/DATE --calibrate off   as it was"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN")
    add_split(command)
    command.add_argument(
        "--images", type=int, metavar="N", help="look at so many of them, chosen by a fixed seed"
    )
    command.add_argument(
        "--show",
        action="append",
        default=[],
        metavar="NAME",
        help="an image whose attention maps to draw (default: the best, the middle, the worst)",
    )
    command.add_argument(
        "--calibrate",
        nargs="?",
        const="on",
        metavar="off",
        help="fit one temperature on the validation part and keep it in the bundle; "
        "`off` takes it back",
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)
    command.add_argument("words", nargs="*", default=[], metavar="key=value")


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    split = split_of(options)
    if options.images is not None and options.images < 1:
        raise UsageError(f"--images is {options.images}: give 1 or more")
    if options.calibrate not in (None, "on", "off"):
        raise UsageError(
            f"--calibrate is {options.calibrate!r}: give it alone, after the run, or with `off`"
        )
    from truemask.analysis.explain import explain
    from truemask.analysis.explanation import TakenBack
    from truemask.runs import UNFINISHED, Run

    run = Run.open(options.path)
    config, other_data = evaluation_config(run, options.words, command="explain")
    found = explain(
        run,
        config=config,
        other_data=other_data,
        split=split,
        images=options.images,
        show=options.show,
        calibrate=None if options.calibrate is None else options.calibrate == "on",
        allow=allowed(options.allow),
        console=options.console,
    )
    if options.json:
        print_json(found.to_json())
        return 0
    if isinstance(found, TakenBack):
        print(found.said)
        return 0
    for text in found.said.values():
        print(f"- {text}")
    for note in found.notes:
        if note.startswith(UNFINISHED):
            continue
        options.console.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)
    if found.fit is not None:
        print(f"The bundle's temperature is now {found.fit.temperature:.4g}.")
    print(f"Page: {found.page}")
    return 0
