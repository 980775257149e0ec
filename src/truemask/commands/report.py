"""`truemask report`: a run's page, again."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json

HELP = "Render a run's report again."
EXAMPLES = "truemask report runs/photos/DATE"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN")


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.report.pages import render_report
    from truemask.runs import Run

    page = render_report(Run.open(options.path))
    if options.json:
        print_json({"report": str(page)})
    else:
        print(page)
    return 0
