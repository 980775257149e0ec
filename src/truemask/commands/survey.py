"""`truemask survey`: a dataset's statistics in one pass."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truemask.commands.words import folder_and_overrides
from truemask.errors import UsageError, counted

if TYPE_CHECKING:
    from truemask.analysis.survey import Counting
    from truemask.analysis.survey_result import Survey

HELP = "Count a dataset in one pass: classes, regions, places, parts against each other."
EXAMPLES = (
    "truemask survey photos/                       surveys/photos/survey.html\n"
    "truemask survey experiment=driving/best data.dataset.root=/data/bdd\n"
    "truemask survey experiment=driving/best data.labels=null    with all classes of the data\n"
    "truemask survey data=bdd100k data.dataset.root=/data/bdd --out /data/survey --ray   a cluster"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("words", nargs="*", default=[], metavar="[DATA_FOLDER] [key=value ...]")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: surveys/NAME")
    command.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    command.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="on all machines of a Ray cluster; write it after the data",
    )
    command.add_argument(
        "--fresh", action="store_true", help="count all images, also those that are known"
    )


def run(options: argparse.Namespace) -> int:
    """Survey, print, and give the exit code: 1 where an image cannot be used."""
    from truemask.analysis.survey import require_ours
    from truemask.compose import compose_config
    from truemask.files import make_folder
    from truemask.training.interruption import Interruption

    folder, overrides = folder_and_overrides(options.words)
    if folder is None and not overrides:
        raise UsageError("give what to survey: a data folder, or experiment=NAME")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers is {options.workers}: give 1 or more")
    if options.workers is not None and options.ray is not None:
        raise UsageError("--workers is for this machine alone: leave it out beside --ray")
    config = compose_config(overrides, folder=folder)
    name = str(config["name"])
    out = options.out or Path("surveys") / name
    require_ours(out)
    make_folder(out)  # whoever waits an hour shall not hear then that it cannot be written
    interruption = Interruption(options.console)
    interruption.hint = ": what is counted already is known the next time"
    try:
        with interruption.installed():
            return _survey(options, config, name, out)
    finally:
        with suppress(OSError):
            out.rmdir()  # where nothing was written into it


def _survey(options: argparse.Namespace, config: dict[str, Any], name: str, out: Path) -> int:
    from dataclasses import replace

    from rich.progress import Progress

    from truemask.analysis.survey import PAGE, save_survey, survey, survey_text
    from truemask.analysis.survey_cache import CountsCache
    from truemask.analysis.survey_page import write_page
    from truemask.analysis.survey_pictures import read_pictures
    from truemask.training.opening import open_parts
    from truemask.training.settings import DataSettings

    # Images are surveyed at their own size, whatever a training makes of them.
    data = replace(DataSettings(**config["data"]), resize=None, evaluation_size="native")
    console = options.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        reading = bar.add_task("Opening", total=None)
        parts, _ = open_parts(
            data,
            seed=config["seed"],
            fetch=True,
            progress=lambda done, total: bar.update(reading, completed=done, total=total),
        )
        bar.remove_task(reading)
        counting = bar.add_task("Counting", total=sum(map(len, parts.values())))
        result = survey(
            parts,
            name=name,
            notes=parts.notes,
            processes=options.workers,
            cache=None if options.fresh else CountsCache(),
            count=_on_ray(options, out) if options.ray is not None else None,
            progress=lambda done, total: bar.update(counting, completed=done, total=total),
        )
        bar.update(counting, description="Drawing")
        save_survey(result, out)
        write_page(result, read_pictures(parts, result), path=out / PAGE)
    if options.json:
        print(survey_text(result))
    else:
        for note in result.notes:
            console.print(f"- {note}", highlight=False, markup=False)
        _print(result, out / PAGE)
    failed = _tell_failed(result)
    return 1 if failed else 0


def _on_ray(options: argparse.Namespace, out: Path) -> "Counting":
    from functools import partial

    from truemask.analysis.survey_distributed import count_on_ray

    return partial(count_on_ray, out=out, address=options.ray, console=options.console)


def _print(result: "Survey", page: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    total = result.total
    table = Table(title=f"{result.name}: {counted(total.images, 'image')}", title_justify="left")
    table.add_column("class")
    for head in ("share", *result.parts, "images", "regions", "below 1 px at 128"):
        table.add_column(head, justify="right")
    for k, one in enumerate(total.classes):
        shares = [part.classes[k].share for part in result.parts.values()]
        small = one.below[128].regions / one.regions if one.regions else None
        table.add_row(
            one.name.replace("[", r"\["),
            *map(_percent, (one.share, *shares)),
            f"{one.images:,}",
            f"{one.regions:,}",
            _percent(small),
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    known = total.images + total.unreadable - result.counted
    how = f"{known:,} known from before, " if known else ""
    print(f"Counted in {result.seconds:.1f} s ({how}{result.counted:,} decoded).")
    print(f"Page: {page}")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _tell_failed(result: "Survey") -> int:
    total = result.total
    for name, reason in total.failed:
        print(f"truemask: skipped {'' if name in reason else f'{name}: '}{reason}", file=sys.stderr)
    if total.unreadable > len(total.failed):
        left = counted(total.unreadable - len(total.failed), "more image")
        print(f"truemask: skipped {left}", file=sys.stderr)
    return total.unreadable
