"""The words of a command: a data folder, `key=value` settings, classes that a run may name."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truemask.errors import UsageError

if TYPE_CHECKING:
    from truemask.runs import Run

ALLOW = "a class of your own that an existing run may name, such as my_package.nets.MyNet"

MODEL = "a run, a copy of its model/, or USER/NAME[@REVISION] of the Hugging Face Hub"

_PARTS = ("train", "validation", "test")


def add_split(
    command: argparse.ArgumentParser,
    *,
    help: str = "train, validation or test (default: test, or validation where there is no test "
    "part)",
) -> None:
    """`--split PART`, to be checked by `split_of`."""
    command.add_argument("--split", metavar="PART", help=help)


def split_of(options: argparse.Namespace) -> str | None:
    """The part that `--split` names.

    Raises:
        UsageError: there is no such part.
    """
    if options.split not in (None, *_PARTS):
        raise UsageError(f"--split is {options.split!r}: give train, validation or test")
    part: str | None = options.split
    return part


def folder_and_overrides(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The data folder among the words of a command, and the `key=value` words.

    Raises:
        UsageError: there are several folders.
    """
    folders = [
        word for word in words if os.path.isdir(word) or not ("=" in word or word.startswith("~"))
    ]
    if len(folders) > 1:
        raise UsageError(f"give one data folder, not {len(folders)}: {', '.join(folders)}")
    return Path(folders[0]) if folders else None, [word for word in words if word not in folders]


def allowed(names: Sequence[str]) -> dict[str, Any]:
    """The classes that `--allow` names.

    Raises:
        UsageError: there is no such class.
    """
    from truemask.build import locate

    return {name: locate(name, key="--allow") for name in names}


def evaluation_config(
    run: "Run", words: Sequence[str], *, command: str
) -> tuple[dict[str, Any], bool]:
    """The configuration of a run with `data.*` and `loss.*` words, to evaluate it with.

    Returns:
        It, and whether it names other data than the run's.

    Raises:
        UsageError: a word changes what an evaluation does not use, or data would be fetched that
            the words do not name, since anybody may have made the run.
    """
    from truemask.compose import override_config

    for word in words:
        if not word.startswith(("data.", "loss.")):
            raise UsageError(f"{word!r} changes nothing here: {command} takes data.* and loss.*")
    before = run.config
    config = override_config(before, words)
    place = str(config["data"]["dataset"].get("root", ""))
    if "://" in place and not any(word.startswith("data.dataset.root=") for word in words):
        raise UsageError(
            f"the run's data is at {place}: say data.dataset.root={place} if it may be fetched"
        )
    other_data = any(
        config["data"]["dataset"].get(key) != before["data"]["dataset"].get(key)
        for key in ("_target_", "root")
    )
    parted = [word for word in words if word.startswith(("data.split", "data.subset"))]
    if parted and not other_data:
        raise UsageError(f"{parted[0]!r} changes nothing here: the run's own data keeps its parts")
    for key in ("split", "subset", "exclude"):  # the run's are for its own data
        if other_data and not any(word.startswith(f"data.{key}") for word in words):
            config["data"][key] = None
    return config, other_data
