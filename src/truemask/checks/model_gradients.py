"""Gradients of what a model puts out with respect to its parameters."""

from collections.abc import Sequence

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
