"""Gradients of what a model puts out with respect to its parameters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from truemask.checks.model_outputs import Output, tensors_in
from truemask.checks.untouched import seed

Gradients = dict[str, Tensor | None]
"""Parameter name -> its gradient; None where nothing leads from it to the output."""


def gradients(model: nn.Module, images: Shaped[Tensor, "B C H W"]) -> Gradients:
    """Gradients of a random projection of all outputs, in the mode that the model is in.

    Only trainable parameters are among them.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    seed(0)
    total = _projected(list(tensors_in(model(images))))
    if total is None or not parameters:
        return dict.fromkeys(parameters)
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))


def _projected(outputs: Sequence[Output]) -> Tensor | None:
    generator = torch.Generator().manual_seed(0)
    total = None
    for output in outputs:
        values = output.tensor
        if values.requires_grad and values.numel() > 0:
            noise = torch.randn(values.shape, generator=generator).to(values)
            # Of both signs, but with a mean, or what is the same everywhere would get nothing.
            part = ((noise + 1) * values).sum() / values.numel() ** 0.5
            total = part if total is None else total + part
    return total


def leaves(output: Tensor) -> list[Tensor]:
    """The tensors that a gradient of an output ends at."""
    found: list[Tensor] = []
    seen, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        ahead += [before for before, _ in node.next_functions]
    return found


_OWN = frozenset(vars(nn.Module()))
"""Where modules keep what is registered, and their hooks."""


def hidden_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Tensors in lists, tuples, mappings and objects that modules hold, and of layers in these."""
    return {
        name: tensor
        for path, module in model.named_modules()
        for key, value in vars(module).items()
        if key not in _OWN
        for name, tensor in _inside(value, f"{path}.{key}" if path else key, depth=3)
    }


def _inside(value: Any, path: str, *, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
        return
    if isinstance(value, nn.Module):
        yield from value.named_parameters(prefix=path)
        return
    if isinstance(value, Mapping):
        parts = dict(value)
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    else:
        parts = getattr(value, "__dict__", {}) if not isinstance(value, type) else {}
    for key, part in parts.items() if depth else ():
        yield from _inside(part, f"{path}.{key}", depth=depth - 1)
