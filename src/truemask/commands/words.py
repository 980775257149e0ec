"""The words of a command: a data folder, `key=value` settings, classes that a run may name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truemask.errors import UsageError

ALLOW = "a class of your own that an existing run may name, such as my_package.nets.MyNet"


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
