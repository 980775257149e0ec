"""`truemask reproduce`: a published project's experiments."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json
from truemask.tables import print_reproduction

HELP = "A published project's experiments, its figures beside ours."
EXAMPLES = (
    "truemask reproduce textures                   all of it, on the CPU\n"
    "truemask reproduce edges --data /data/VOC     on your copy of the data\n"
    "truemask reproduce driving --miniature        a few minutes, to see what it makes\n"
    "truemask reproduce edges --data /data/VOC --only weighted,unweighted"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("project", metavar="PROJECT")
    command.add_argument("--data", type=Path, metavar="DIR", help="your copy of its data")
    command.add_argument(
        "--miniature", action="store_true", help="on a generated miniature of its data"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="default: reproductions/PROJECT")
    command.add_argument(
        "--runs", nargs="+", type=Path, default=[], metavar="RUN", help="finished runs to take in"
    )
    command.add_argument("--only", metavar="TRIAL,...", help="some of its experiments")
    command.add_argument("words", nargs="*", default=[], metavar="key=value")


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.projects.reproduce import reproduce

    out = options.out or Path("reproductions") / options.project
    result = reproduce(
        options.project,
        out=out,
        data=options.data,
        miniature=options.miniature,
        finished=options.runs,
        only=() if options.only is None else tuple(options.only.split(",")),
        overrides=options.words,
        console=options.console,
    )
    if options.json:
        print_json(result.to_json())
    else:
        print_reproduction(result)
        print(f"Page: {result.page}")
    return 0
