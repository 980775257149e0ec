"""Which folders are runs, and where those below a folder are."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

CONFIG = "config.yaml"
"""The file that makes a folder a run."""

_DEEPEST = 9
"""Those of a sweep are at PROJECT/EXPERIMENT/sweep_DATE/jobs/NUMBER/PROJECT/EXPERIMENT/DATE."""

_MOST = 20_000
"""Folders that are looked at, because a whole disk may be given by mistake."""


def is_run(path: Path) -> bool:
    """Whether a folder is a run, finished or not."""
    return (path / CONFIG).is_file()


def run_folders(root: Path) -> list[Path]:
    """The folders of the runs in a folder and below it, the newest first."""
    folders = itertools.islice(_folders(root, depth=_DEEPEST), _MOST)
    return sorted(filter(is_run, folders), key=_started, reverse=True)


def _started(path: Path) -> tuple[int, str]:
    return (path / CONFIG).stat().st_mtime_ns, str(path)


def _folders(root: Path, *, depth: int) -> Iterator[Path]:
    """A folder and those below it, nearest first, down to runs and not into them."""
    level = [root]
    for _ in range(depth):
        yield from level
        level = [below for path in level if not is_run(path) for below in _below(path)]
    yield from level


def _below(path: Path) -> list[Path]:
    try:
        entries = [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []  # what may not be read holds no run that could be
    return [path / name for name in sorted(entries) if not name.startswith(".")]
