"""`truemask push`: a run's model on the Hugging Face Hub, with a card of its figures."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, allowed

HELP = "Put a run's model on the Hugging Face Hub, with a card written from its results."
EXAMPLES = (
    "truemask push runs/photos/DATE me/photos --license mit --dry-run card/   look at it first\n"
    'truemask push runs/photos/DATE me/photos --license cc-by-4.0 --data "Own photos, CC BY"\n'
    "truemask push runs/photos/DATE me/photos --license mit --private --onnx photos.onnx"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN")
    command.add_argument("repo", metavar="USER/NAME", help="made where it does not exist")
    command.add_argument(
        "--license",
        required=True,
        metavar="ID",
        help="of the weights, in the Hub's words: apache-2.0, mit, cc-by-4.0, cc-by-nc-4.0, other",
    )
    command.add_argument(
        "--data", metavar="TEXT", help="what the images are, and under which terms; for the card"
    )
    command.add_argument(
        "--private",
        action="store_true",
        help="make a new repository that only you see (default: as your account is set, mostly "
        "public)",
    )
    command.add_argument(
        "--onnx", type=Path, metavar="FILE", help="an exported file of this run to lie beside it"
    )
    command.add_argument("--message", metavar="TEXT", help="of the commit")
    command.add_argument(
        "--dry-run",
        type=Path,
        metavar="DIR",
        help="write all of it into a folder, and nothing to the Hub",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="also an unfinished run, one with errors, or over something else",
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.inference.push import push
    from truemask.runs import Run

    run = Run.open(options.path)
    bundle = run.load_bundle(allow=allowed(options.allow))
    with options.console.status("Writing the model"):
        result = push(
            run,
            options.repo,
            bundle,
            license=options.license,
            data=options.data,
            onnx=options.onnx,
            private=True if options.private else None,
            message=options.message,
            force=options.force,
            folder=options.dry_run,
        )
    if options.json:
        print_json(result.to_json())
        return 0
    size = sum(result.files.values()) / 1e6
    where = result.folder or result.url
    print(f"{', '.join(result.files)} ({size:.1f} MB) in {where}")
    if result.commit is not None:
        seen = "Only you see it. " if result.private else "Everybody sees it. "
        print(f'{seen}Load it: truemask.load("{result.repo}@{result.commit}")')
    return 0
