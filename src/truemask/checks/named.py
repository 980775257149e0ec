"""Somebody's own loss, model, metric or dataset, named on the command line as `module:function`."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from truemask.build import nearest
from truemask.checks.failures import in_short
from truemask.errors import UsageError


def load(name: str, *, option: str) -> Any:
    """What `module:function` names; modules of the working folder are found.

    Args:
        name: such as "my_project.losses:FocalLoss", with dots for what lies inside.
        option: the option that gave it, for messages.

    Raises:
        UsageError: it is not of that form, the module fails, or has nothing of that name.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise UsageError(f"{option} is {name!r}: write module:function, such as my_losses:focal")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # anybody's module may fail in any way
        raise UsageError(
            f"{option}: {module_name} cannot be imported: {in_short(error)}"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            hint = nearest(part, [key for key in vars(found) if not key.startswith("_")])
            raise UsageError(f"{option}: {module_name} has no {path!r}{hint}")
        found = getattr(found, part)
    return found


def made(found: Any, *, option: str) -> Any:
    """The thing itself, where its name stands for a class or for a function that makes it.

    Raises:
        UsageError: making it fails, or needs arguments.
    """
    if isinstance(found, nn.Module) or not callable(found):
        return found
    if inspect.isclass(found) or _makes_something(found, option):
        try:
            return found()
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{option}: calling it without arguments fails ({in_short(error)}): give a "
                "function that takes none and returns it"
            ) from error
    return found


def _makes_something(function: Callable[..., Any], option: str) -> bool:
    """Whether a function is to be called for what it makes: it can be called without arguments.

    A loss or a metric may have defaults, too; a function that takes any is one of these itself.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    if option in ("--loss", "--metric"):
        return not parameters
    return all(
        parameter.default is not parameter.empty
        or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters
    )
