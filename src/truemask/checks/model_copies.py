"""Copies of a model, to do things to."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from truemask.checks.failures import in_short
from truemask.errors import UsageError


class SingleValue(Exception):
    """A normalisation refused one value; `layer` is its name, `shape` of what it was given."""

    def __init__(self, layer: str, shape: tuple[int, ...]) -> None:
        super().__init__(layer, shape)
        self.layer, self.shape = layer, shape


def settle(model: nn.Module, call: Callable[[], Any]) -> None:
    """Give all modules with running statistics those of one call."""
    momenta = {
        module: module.momentum
        for module in model.modules()
        if isinstance(getattr(module, "running_var", None), Tensor) and hasattr(module, "momentum")
    }
    for module in momenta:
        module.momentum = 1.0  # type: ignore[assignment]
    try:
        with torch.no_grad():
            call()
    except ValueError:  # A batch norm over one value, which is a finding of its own.
        pass
    finally:
        for module, momentum in momenta.items():
            module.momentum = momentum


def is_single_value(error: Exception) -> bool:
    """Whether it is PyTorch's refusal to normalise one value."""
    return isinstance(error, ValueError) and str(error).startswith("Expected more than 1")


def independent_copy(model: nn.Module) -> nn.Module:
    """A deep copy that shares no tensor with the model, and has no gradients.

    Tensors with a history, such as attention maps that a module keeps for pictures, cannot be
    copied by Python; they lose their history.

    Raises:
        UsageError: it cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            held = value.values() if isinstance(value, dict) else value
            for tensor in held if isinstance(value, dict | list | tuple) else [value]:
                if isinstance(tensor, Tensor) and not tensor.is_leaf:
                    memo[id(tensor)] = tensor.detach().clone()
    try:
        twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise UsageError(
            f"{type(model).__name__} cannot be copied, and a model is probed by changing a copy "
            f"({in_short(error)}): keep what cannot be copied outside of the module"
        ) from error
    twin.zero_grad(set_to_none=True)
    return twin


def unwrapped(model: nn.Module) -> nn.Module:
    """Without what compiles it or spreads it over devices."""
    for attribute in ("_orig_mod", "module"):
        inner = getattr(model, attribute, None)
        if isinstance(inner, nn.Module) and (
            attribute == "_orig_mod"
            or isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
        ):
            return unwrapped(inner)
    return model


def to_single(model: nn.Module) -> None:
    """Half precision becomes float32."""
    halves = (torch.half, torch.bfloat16)
    if any(tensor.dtype in halves for tensor in (*model.parameters(), *model.buffers())):
        model.float()
