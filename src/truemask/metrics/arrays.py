"""Counts on disk: arrays in one .npz file, of which nothing is executed when it is read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from truemask.errors import UsageError
from truemask.files import atomic_path


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write an .npz file, atomically.

    Raises:
        UsageError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextmanager
def reading_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray[Any, Any]]]:
    """The arrays of an .npz file, also of one that anybody may have written.

    Raises:
        UsageError: the file is missing or unreadable, or what is done with its arrays fails.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            yield file
    # Zip, zlib, NumPy and JSON each fail in their own ways at a file that may be anything.
    except Exception as error:
        raise UsageError(f"{path} is no readable evaluation: {error}; evaluate again") from error
