"""`truemask sample`: a miniature of a dataset."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json

HELP = "Write a miniature of a dataset, generated, in its exact layout on disk."
EXAMPLES = (
    "truemask sample voc2012 --out data/voc     a miniature in the layout of PASCAL VOC\n"
    "truemask train experiment=edges/weighted data.dataset.root=data/voc"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("name", metavar="NAME", help="such as voc2012; `truemask list` has all")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--images", type=int, metavar="N", help="how many (default: some hundred)")
    command.add_argument("--seed", type=int, default=0, metavar="N")


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from rich.progress import Progress

    from truemask.miniatures.writing import write_miniature

    console = options.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Drawing {options.name}", total=None)
        folder = write_miniature(
            options.name,
            options.out,
            images=options.images,
            seed=options.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if options.json:
        print_json({"name": options.name, "folder": str(folder)})
    else:
        print(f"A generated miniature of {options.name} is in {folder}.")
    return 0
