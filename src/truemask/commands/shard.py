"""`truemask shard`: a dataset as shards."""

import argparse

from truemask.commands.output import print_json
from truemask.commands.words import folder_and_overrides
from truemask.errors import UsageError, counted

HELP = "Write a dataset as shards, to train on data larger than one disk."
EXAMPLES = (
    "truemask shard photos/ --out /data/shards --size 256MB\n"
    "truemask train data=shards data.dataset.root=/data/shards"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("words", nargs="*", default=[], metavar="[DATA_FOLDER] [key=value ...]")
    command.add_argument("--out", required=True, metavar="DIR_OR_URL")
    command.add_argument("--size", default="256MB", help="of a shard, such as 256MB")


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from dataclasses import replace

    from rich.progress import Progress

    from truemask.compose import compose_config
    from truemask.data.sharding import parse_size, write_shards
    from truemask.training.opening import open_parts
    from truemask.training.settings import DataSettings

    folder, overrides = folder_and_overrides(options.words)
    if folder is None and not overrides:
        raise UsageError("give what to shard: a data folder, or experiment=NAME")
    size = parse_size(options.size)
    config = compose_config(overrides, folder=folder)
    if config["data"].get("ignore_regions") is not None:
        raise UsageError(
            "data.ignore_regions changes nothing in shards, which hold the masks as they are: give "
            "it to the training"
        )
    # Size and classes are the training's to choose; the shards hold the files as they are.
    data = replace(
        DataSettings(**config["data"]), labels=None, resize=None, evaluation_size="native"
    )
    parts, _ = open_parts(data, seed=config["seed"], fetch=True)
    console = options.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Sharding", total=None)
        result = write_shards(
            parts,
            options.out,
            size=size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if options.json:
        print_json(result.to_json())
        return 0
    for note in parts.notes:
        console.print(f"- {note}", highlight=False, markup=False)
    for name, part in result.parts.items():
        samples, shards = counted(part.samples, "sample"), counted(part.shards, "shard")
        print(f"{name}: {samples} in {shards}, {part.bytes / 1e6:,.1f} MB")
    print(f"Shards: {result.out}")
    return 0
