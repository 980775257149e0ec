"""What went wrong in somebody else's code, in a few words and with the line where it did."""

import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

import truemask
from truemask.errors import UsageError

_INSTALLED = ("site-packages", "dist-packages")
_OURS = Path(truemask.__file__).parent
_STANDARD = Path(traceback.__file__).parent


def in_short(error: BaseException) -> str:
    """The kind of an error, the first line of its message, and the line of somebody's own file.

    Of an error that a loading process passed on, that is what was raised there.
    """
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if lines and lines[0].startswith("Caught ") and "Original Traceback" in str(error):
        return lines[-1][:200]
    kind = type(error).__name__
    said = f"{kind}: {lines[0][:160]}" if lines else kind
    return said + _place(error)


def refuse_class(thing: Any, name: str) -> None:
    """Say that an instance is wanted, where a class was given.

    Raises:
        UsageError: it is a class.
    """
    if inspect.isclass(thing):
        raise UsageError(f"{name} is a class: give an instance of it, {name}(...)")


def kind_of(returned: object) -> str:
    """What was returned instead of what is wanted, in a few words."""
    return "nothing (None)" if returned is None else f"a {type(returned).__name__}"


def _place(error: BaseException) -> str:
    """The innermost line of code that is neither Truemask's nor installed."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and _is_own(Path(frame.filename))
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _is_own(file: Path) -> bool:
    if any(part in _INSTALLED for part in file.parts):
        return False
    inside = (_OURS, _STANDARD, Path(sys.prefix) / "lib")
    return not any(file.is_relative_to(folder) for folder in inside)
