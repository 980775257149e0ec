"""`truemask plan`: an experiment for a dataset, with a reason beside every choice."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truemask.commands.output import print_json
from truemask.commands.words import folder_and_overrides
from truemask.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from truemask.analysis.plan import Plan

HELP = "Write an experiment for your data and this machine, with a reason beside every choice."
EXAMPLES = (
    "truemask plan photos/ --time 20:00 --out plan.yaml\n"
    "truemask train photos/ experiment=plan.yaml      as it is, or edited\n"
    "truemask plan experiment=driving/best data.dataset.root=/data/bdd   for its data\n"
    "truemask plan data=textures"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("words", nargs="*", default=[], metavar="[DATA_FOLDER] [key=value ...]")
    command.add_argument("--time", metavar="MM:SS", help="that the training shall take")
    command.add_argument(
        "--out", type=Path, metavar="FILE.yaml", help="default: the plan is printed"
    )


def run(options: argparse.Namespace) -> int:
    """Plan, print or write, and give the exit code."""
    from truemask.files import write_text
    from truemask.training.interruption import Interruption

    folder, words = folder_and_overrides(options.words)
    if folder is None and not words:
        raise UsageError("give what to plan for: a data folder, data=textures or experiment=NAME")
    if options.out is not None:
        if options.out.suffix not in (".yaml", ".yml"):
            raise UsageError(f"--out is {options.out}: an experiment's file ends in .yaml")
        if options.out.exists():
            raise UsageError(f"{options.out} exists, and may have been edited: give another --out")
    if options.time is not None:
        words.append(f"trainer.max_time='{options.time}'")
    with Interruption(options.console).installed():
        plan, _ = planned(words, folder=folder, console=options.console)
    if options.out is not None:
        write_text(options.out, plan.text)
    if options.json:
        print_json(plan.to_json())
    elif options.out is None:
        print(plan.text, end="")
    else:
        show(plan, options.console)
        print(f"Plan: {options.out}")
    return 0


def planned(
    words: Sequence[str], *, folder: Path | None, console: "Console"
) -> tuple["Plan", dict[str, Any]]:
    """The plan for the data of the words, and what it and they compose to.

    A published experiment gives the data and no more: its other settings are not in the plan.

    Raises:
        UsageError: a word, or the data, cannot be used.
    """
    from truemask.analysis.plan import make_plan
    from truemask.compose import compose_config
    from truemask.training.processes import find_place

    base = compose_config(words, folder=folder)
    others = [word for word in words if not word.startswith("experiment=")]
    with console.status("Planning: reading the data") as status:
        plan = make_plan(
            base,
            words=others,
            # Each of several processes would measure something else.
            measured=find_place().processes == 1,
            progress=lambda done, total: status.update(f"Planning: {done} of {total} images"),
        )
    return plan, compose_config(others, folder=folder, experiment=plan.experiment)


def plans(words: Sequence[str], *, folder: Path | None) -> bool:
    """Whether a training with these words is planned: data are named, and no experiment."""
    named = any(word.startswith("experiment=") for word in words)
    has_data = folder is not None or any(word.startswith("data=") for word in words)
    return has_data and not named and not any(word.startswith("plan=") for word in words)


def show(plan: "Plan", console: "Console") -> None:
    """The choices, one a line, and what is wrong with the data."""
    for warning in plan.warnings:
        console.print(f"! {warning}", highlight=False, markup=False, soft_wrap=True)
    for choice in plan.choices:
        line = f"- {choice.key} = {brief(choice.value)}: {choice.reason}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def brief(value: Any) -> str:
    """A value as it is told: of an object its name."""
    if isinstance(value, dict):
        if "_target_" in value:
            return str(value["_target_"]).rpartition(".")[2]
        return ", ".join(f"{key} {brief(item)}" for key, item in value.items())
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return " + ".join(brief(item) for item in value)
    return "none" if value is None else str(value)
