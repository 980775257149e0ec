"""Whether a loss teaches at all: it has a gradient, which reaches every sample."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from truemask.checks.finding import Finding, rule
from truemask.checks.loss_probe import LossProbe

FEW = 0.1
"""A loss that looks at a smaller share of the pixels has lost them."""


@rule("TM401", "no-gradient", "error")
def no_gradient(probe: LossProbe) -> Iterator[Finding]:
    """The loss gives the prediction, or a part of it, no gradient.

    Why it matters: training runs, a number is printed, and nothing is learnt. In the published
    project on textures, cross-entropy ran over a single channel: a softmax over one value is 1
    whatever the network says, so the loss was exactly 0 for a hundred epochs.

    How it decides: the loss is computed for four random predictions of masks in which all classes
    occur. It is reported where the result is cut off from the prediction (`detach`, `item`, NumPy),
    where it is the same number for all four, where it varies but its gradient is exactly zero
    (rounded, thresholded, argmax), and where no change of one sample, or of more than 90 % of the
    pixels, ever reaches the result.

    False alarms: none are known. A loss that looks at the hardest pixels only, or at the borders of
    regions, reaches enough pixels over the four predictions.

    How to mend: for two classes with one logit channel take a binary cross-entropy with logits, or
    give the network two channels. Compute the loss of probabilities, never of `argmax`, `round` or
    a comparison, and keep `.detach()`, `.item()` and `.numpy()` out of it.
    """
    values, gradients = [], []
    for start in range(4):
        value, gradient = probe.gradient(probe.random(start), probe.ids)
        values.append(value)
        gradients.append(gradient)
    if not all(map(math.isfinite, values)):
        return
    varies = max(values) - min(values) > 1e-6 * max(1.0, *map(abs, values))
    found = [gradient for gradient in gradients if gradient is not None]
    strength = max((float(gradient.abs().max()) for gradient in found), default=0.0)
    evidence = {"values": values, "largest_gradient": strength}
    if not varies and strength <= 1e-6:
        yield no_gradient.finding(
            f"{probe.name} is {values[0] + 0.0:.6g} whatever is predicted, so nothing is learnt"
            f"{_why_constant(probe)}.",
            remedy=_instead_of_constant(probe),
            evidence=evidence,
        )
    elif not found:
        yield no_gradient.finding(
            f"{probe.name} gives a number that is cut off from the prediction: no gradient flows.",
            remedy="Compute it with differentiable operations on the prediction: no argmax, "
            "comparison, .detach(), .item() or NumPy.",
            evidence=evidence,
        )
    elif strength == 0:
        yield no_gradient.finding(
            f"{probe.name} varies from {min(values):.4g} to {max(values):.4g}, but its gradient is "
            "exactly zero: the prediction is rounded, thresholded or argmaxed.",
            remedy="Compute it of probabilities, without round, argmax or a comparison.",
            evidence=evidence,
        )
    else:
        yield from _partly(probe, torch.stack([gradient != 0 for gradient in found]))


def _partly(probe: LossProbe, reached: Tensor) -> Iterator[Finding]:
    """Samples or pixels that no gradient ever reached; `reached` is (N, B, L, H, W)."""
    samples = reached.any(0).flatten(1).any(1)
    share = float(reached.any(0).any(1).double().mean())
    if not samples.all():
        missed = [index for index, hit in enumerate(samples.tolist()) if not hit]
        yield no_gradient.finding(
            f"{probe.name} gives {len(missed)} of {len(samples)} samples of a batch no gradient: "
            f"those at {missed}.",
            remedy="Reduce over the whole batch, instead of taking one sample of it.",
            evidence={"samples_without_gradient": missed},
        )
    elif share < FEW:
        yield no_gradient.finding(
            f"{probe.name} looks at {share:.1%} of the pixels only; all others get no gradient.",
            remedy="Let all pixels through: look for an index or a reshape that drops them.",
            evidence={"share_of_pixels": share},
        )


def _why_constant(probe: LossProbe) -> str:
    if probe.form.channels == 1:
        return ": a softmax over a single channel is always 1"
    return ""


def _instead_of_constant(probe: LossProbe) -> str:
    if probe.form.channels == 1:
        return (
            "Use BCEWithLogitsLoss (a sigmoid) for one logit channel, or give the network two "
            "channels."
        )
    return "Let the loss depend on the prediction that it is given."
