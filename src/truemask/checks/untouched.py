"""Calls of somebody's code that leave nothing behind: random numbers, modules and modes stay."""

import copy
import functools
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

Anything = TypeVar("Anything")


@contextmanager
def untouched(call: Any) -> Iterator[None]:
    """Restore the random numbers of Python, NumPy and PyTorch, and the state of `call`'s modules.

    Inside, warnings are silent and gradients are on.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    kept = [(module, _state_of(module)) for module in modules_of(call)]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            for module, state in kept:
                _restore(module, state)


def seed(number: int) -> None:
    """The same random numbers again, so that a loss that draws some is a function."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    # `torch.manual_seed` would format a traceback each time, for a CUDA that may not be there.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(number)


def copied(call: Anything) -> Anything:
    """A copy to do things to, or the thing itself where it cannot be copied."""
    try:
        return copy.deepcopy(call)
    except Exception:
        return call


def modules_of(call: Any) -> list[nn.Module]:
    """The modules that a call can reach: itself, what it is bound to, or what it closes over."""
    if isinstance(call, nn.Module):
        return [call]
    if isinstance(call, functools.partial):
        parts = [call.func, *call.args, *call.keywords.values()]
        return [module for part in parts for module in modules_of(part)]
    near: list[Any] = [getattr(call, "__self__", None)]
    for cell in getattr(call, "__closure__", None) or ():
        try:
            near.append(cell.cell_contents)
        except ValueError:  # A cell that is still empty.
            continue
    near += list(vars(call).values()) if hasattr(call, "__dict__") else []
    return [part for part in near if isinstance(part, nn.Module)]


def name_of(call: Callable[..., Any]) -> str:
    """What to call it in a message."""
    if isinstance(call, functools.partial):
        return name_of(call.func)
    name = getattr(call, "__qualname__", None) or type(call).__qualname__
    return "the function" if "<lambda>" in name else name.rsplit(".", 1)[-1]


def _state_of(module: nn.Module) -> list[tuple[nn.Module, bool, dict[str, torch.Tensor]]]:
    return [
        (
            part,
            part.training,
            {
                key: value.detach().clone()
                for key, value in (*part._buffers.items(), *part._parameters.items())
                if value is not None
            },
        )
        for part in module.modules()
    ]


def _restore(
    module: nn.Module, state: list[tuple[nn.Module, bool, dict[str, torch.Tensor]]]
) -> None:
    for part, training, tensors in state:
        part.training = training
        for key, value in tensors.items():
            own = part._buffers.get(key, part._parameters.get(key))
            if own is not None and own.shape == value.shape and not torch.equal(own, value):
                own.data.copy_(value)
