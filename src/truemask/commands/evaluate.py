"""`truemask evaluate`: the scores of a run's best weights."""

import argparse
import re
from pathlib import Path

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, allowed, evaluation_config
from truemask.errors import UsageError
from truemask.tables import print_scores

HELP = "Score a run's best weights on one part of its data, or on other data."
EXAMPLES = "truemask evaluate runs/photos/DATE --split validation"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN")
    command.add_argument(
        "--split",
        metavar="PART",
        help="train, validation or test (default: test, or validation where there is no test part)",
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)
    command.add_argument("words", nargs="*", default=[], metavar="key=value")


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.runs import Run
    from truemask.training.testing import evaluate_run

    if options.split not in (None, "train", "validation", "test"):
        raise UsageError(f"--split is {options.split!r}: give train, validation or test")
    run = Run.open(options.path)
    config, other_data = evaluation_config(run, options.words, command="evaluate")
    split, result, evaluation = evaluate_run(
        run,
        split=options.split,
        config=config,
        other_data=other_data,
        allow=allowed(options.allow),
        console=options.console,
    )
    name = split
    if other_data:
        root = Path(str(config["data"]["dataset"].get("root", "other-data")))
        name += "-on-" + re.sub(r"[^A-Za-z0-9_-]", "_", root.resolve().name)
    file = run.write_evaluation(name, result, save=evaluation.save)
    if options.json:
        print_json(result.to_json())
    else:
        print_scores(result, title=f"{split} of {run.path}")
        print(f"Saved: {file}")
    return 0
