"""MATLAB's files, in which some published datasets keep their annotations."""

from pathlib import Path
from typing import Any

from truemask.errors import UsageError


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a `.mat` file (up to version 7.2) by name, each an array.

    Raises:
        UsageError: the file cannot be read.
    """
    return dict(_call("loadmat", path))


def shape_in_mat(path: Path, variable: str) -> tuple[int, ...]:
    """The shape of one variable, of which no more than the header is read.

    Raises:
        UsageError: as `read_mat`, or there is no such variable.
    """
    for name, shape, _ in _call("whosmat", path):
        if name == variable:
            return tuple(shape)
    raise UsageError(f"{path} holds no variable {variable}: extract its archive again")


def _call(function: str, path: Path) -> Any:
    import scipy.io

    try:
        return getattr(scipy.io, function)(path)
    except OSError as error:
        why = error.strerror or "it is cut short"
        raise UsageError(f"cannot read {path}: {why}") from error
    # SciPy raises whatever its parser stumbles over, and NotImplementedError on version 7.3.
    except Exception as error:
        raise UsageError(
            f"{path} is no MATLAB file of version 7.2 or before: extract its archive again"
        ) from error
