"""`truemask train`: one training, or many with `-m`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, folder_and_overrides
from truemask.errors import UsageError
from truemask.tables import print_scores, print_sweep

if TYPE_CHECKING:
    from rich.console import Console

    from truemask.training.opening import Opened

HELP = "Train on a folder of images and masks, test the best weights, report."
EXAMPLES = (
    "truemask train                                  the embedded textures, a minute\n"
    "truemask train photos/                          your own images and masks\n"
    "truemask train photos/ trainer.max_time=20:00   for twenty minutes, planned for that time\n"
    "truemask train photos/ experiment=plan.yaml     by a plan that you have edited\n"
    "truemask train photos/ plan=false               with the fixed default settings\n"
    "truemask train photos/ model.widths=[64,128,256,512] data.crop=[256,256] seed=1\n"
    "truemask train -m optimizer.lr=0.001,0.01       one run for each value, and a comparison\n"
    "truemask train resume=runs/photos/DATE          go on with a run that was interrupted\n"
    "truemask train photos/ logger=[tensorboard,mlflow] profile=true"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("words", nargs="*", default=[], metavar="[DATA_FOLDER] [key=value ...]")
    command.add_argument(
        "-m", "--multirun", action="store_true", help="one run for each combination of values"
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.training.allocation import use_huge_pages

    use_huge_pages()  # before PyTorch is imported, and for the processes that are started from here
    folder, overrides = folder_and_overrides(options.words)
    if options.multirun:
        return _sweep(options, folder, overrides)

    from truemask.training.interruption import Interruption

    # From here on, as what comes first takes seconds, and a signal shall get its line there too.
    with Interruption(options.console).installed():
        return _train_once(options, folder, overrides)


def _train_once(options: argparse.Namespace, folder: Path | None, overrides: list[str]) -> int:
    from truemask.compose import resume_config
    from truemask.runs import Run
    from truemask.training.fit import train

    run = opened = None
    resumed = [word for word in overrides if word.startswith("resume=")]
    if resumed:
        if len(resumed) > 1:
            raise UsageError(f"resume one run at a time, not {len(resumed)}")
        if folder is not None:
            raise UsageError("resume=RUN goes on with the data of that run: leave the folder out")
        run = Run.open(Path(resumed[0].partition("=")[2]))
        rest = [word for word in overrides if word not in resumed]
        config = resume_config(run.config, rest, allow=options.allow)
    else:
        config, opened = _composed(overrides, folder, options.console)
    result = train(config, console=options.console, resume=run, opened=opened)
    if options.json:
        print_json(result.to_json())
        return 0
    judged, part = list(result.parts.items())[-1]
    print_scores(part, title=f"{judged}, best weights (epoch {result.best_epoch + 1})")
    if judged == "validation":
        print("There is no test part: these figures are of the part that chose the weights.")
    print(f"Training ended: {result.stopped} ({result.seconds:.0f} s).")
    print(f"Run:    {result.run}")
    print(f"Report: {Path(result.run) / 'report.html'}")
    return 0


def _composed(
    overrides: list[str], folder: Path | None, console: "Console"
) -> tuple[dict[str, Any], "Opened | None"]:
    """The configuration: of the experiment that is named, else by a plan for the data."""
    from truemask.commands.plan import planned, plans, show
    from truemask.compose import compose_config
    from truemask.training.processes import find_place

    words = [word for word in overrides if word != "plan=true"]
    if not plans(words, folder=folder):
        return compose_config(words, folder=folder), None
    plan, config = planned(words, folder=folder, console=console)
    if find_place().is_main:
        console.print("Plan (plan.yaml in the run; plan=false trains without it):", markup=False)
        show(plan, console)
    return {**config, "plan": plan.text}, plan.opened


def _sweep(options: argparse.Namespace, folder: Path | None, overrides: Sequence[str]) -> int:
    from truemask.sweeps.sweep import run_sweep

    result = run_sweep(overrides, folder=folder, allow=options.allow, console=options.console)
    if options.json:
        print_json(result.to_json())
    else:
        print_sweep(result)
    return 0 if result.complete else 1
