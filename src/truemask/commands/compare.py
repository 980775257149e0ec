"""`truemask compare`: runs side by side."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json
from truemask.tables import print_comparison

HELP = "Runs side by side: what differs, and how sure the differences are."
EXAMPLES = (
    "truemask compare runs/photos/DATE-1 runs/photos/DATE-2\n"
    "truemask compare runs/photos/sweep_DATE --out comparison"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("paths", nargs="+", type=Path, metavar="RUN_OR_SWEEP")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: comparisons/DATE-TIME")
    command.add_argument(
        "--pictures",
        type=int,
        default=6,
        metavar="N",
        help="images of each kind that are predicted again and shown (default: 6; 0 for none)",
    )


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.analysis.compare import compare, require_ours
    from truemask.errors import UsageError

    if options.pictures < 0:
        raise UsageError(f"--pictures is {options.pictures}: give how many images, 0 or more")
    if options.out is not None:
        require_ours(options.out)
    result = compare(options.paths, options.out, pictures=options.pictures, console=options.console)
    if options.json:
        print_json(result.to_json())
    else:
        print_comparison(result)
    return 0
