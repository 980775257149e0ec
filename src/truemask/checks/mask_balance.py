"""Whether a loss does anything for a rare class, found out by its gradient.

Nothing is read from the loss: weights, focal terms and region terms show in what they do to a pixel
of the rare class, beside what a plain cross-entropy does to it.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from truemask.checks.loss_forms import Form, forms
from truemask.checks.loss_probe import number_of
from truemask.checks.probing import preserved_randomness

_TIMES = 3.0
"""From so many times the gradient of a plain cross-entropy on, a loss helps the rare class."""

_LEADS = (0.0, 3.0)
"""By how much the logit of the large class is ahead in the predictions that are tried."""


def balances(
    loss: Callable[..., Any], *, classes: int, large: int, rare: int, ignored: int | None = None
) -> bool | None:
    """Whether a loss pulls more at a pixel of a rare class than a plain cross-entropy does.

    Args:
        loss: called with a prediction (logits) and a target, in any of the usual shapes.
        classes: K.
        large: the class that has nearly all pixels.
        rare: another class.
        ignored: id of pixels that do not count; not used in the trial.

    Returns:
        None if the loss cannot be called, or gives no gradient.
    """
    assert ignored is None or ignored not in (large, rare)
    try:
        loss = copy.deepcopy(loss)
    except Exception:  # Somebody's object that cannot be copied is called as it is.
        loss = loss
    ids = torch.full((2, 16, 16), large)
    ids[:, ::5, ::5] = rare
    with preserved_randomness():
        every = [form for kind in forms(classes, "float") for form in kind]
        # Without a channel, a cross-entropy would take the rows for classes.
        for form in sorted(every, key=lambda form: not form.prediction_channel):
            factors = [_factor(loss, form, ids, large, rare, lead) for lead in _LEADS]
            known = [factor for factor in factors if factor is not None]
            if known:
                return max(known) >= _TIMES
    return None


def _factor(
    loss: Callable[..., Any], form: Form, ids: Tensor, large: int, rare: int, lead: float
) -> float | None:
    """How often the pull at a rare pixel, beside that at others, is that of a cross-entropy."""
    scores = torch.zeros(len(ids), form.channels, *ids.shape[1:])
    if form.channels == 1:
        scores += lead if large == 1 else -lead
    else:
        scores[:, large] += lead
    felt = _pull(lambda s: loss(form.prediction(s), form.truth(ids, s.dtype)), scores, ids, rare)
    plain = _pull(lambda s: _plain(s, ids), scores, ids, rare)
    return None if felt is None or plain is None else felt / plain


def _pull(
    loss: Callable[[Tensor], Any], scores: Float[Tensor, "B L H W"], ids: Tensor, rare: int
) -> float | None:
    scores = scores.clone().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(number_of(loss(scores)), scores)
    except Exception:  # Not a shape that this loss takes.
        return None
    felt = gradient.abs().sum(1)
    on_rare, on_large = float(felt[ids == rare].mean()), float(felt[ids != rare].mean())
    if not (on_rare > 0 and on_large > 0 and on_rare + on_large < float("inf")):
        return None
    return on_rare / on_large


def _plain(scores: Float[Tensor, "B L H W"], ids: Int64[Tensor, "B H W"]) -> Tensor:
    if scores.shape[1] == 1:
        scores = torch.cat((torch.zeros_like(scores), scores), 1)
    return cross_entropy(scores, ids)
