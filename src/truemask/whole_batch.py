"""The loss of a batch that goes through the model in parts: in micro-batches, or over processes.

`loss(logits, target, whole=...)` is one part's share, and the shares add up to the loss of the
whole batch. A mean of the parts' own losses would not: with ignored pixels, a part that has few
valid ones would count as much as one that has many.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from truemask.labels import IGNORE_INDEX


@dataclass(frozen=True)
class Whole:
    """The batch that a part belongs to.

    Attributes:
        mass: what `loss.mass(target)` gives, added up over all parts.
        total: adds a tensor up over the processes, in a way that gradients can follow.
    """

    mass: Float[Tensor, " T"]
    total: Callable[[Tensor], Tensor]


def mass_of(loss: nn.Module, target: Tensor) -> Float[Tensor, " T"]:
    """What a part of a batch counts in its loss; of a loss without `mass`, its valid pixels."""
    measure = getattr(loss, "mass", None)
    if measure is not None:
        found: Tensor = measure(target)
        return found
    valid = target != getattr(loss, "ignore_index", IGNORE_INDEX)
    return valid.sum(dtype=torch.float64)[None]


def share_of(
    loss: nn.Module, logits: Float[Tensor, "B L H W"], target: Tensor, *, whole: Whole
) -> Float[Tensor, ""]:
    """What a part adds to the loss of the whole batch.

    A loss that does not know of parts (one of the user's) is taken for a mean over valid pixels.
    """
    if hasattr(loss, "mass"):
        share: Tensor = loss(logits, target, whole=whole)
        return share
    weighted: Tensor = loss(logits, target) * mass_of(loss, target)[0]
    return (weighted / whole.mass[0].clamp_min(1)).to(weighted.dtype)
