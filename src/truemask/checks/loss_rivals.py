"""Predictions that must not lose less than the perfect one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from truemask.checks.loss_probe import LossProbe

_CONFIDENCES = (0.5, 2.0, 8.0, 64.0)
_STEPS = 25


@dataclass(frozen=True)
class Rival:
    """A prediction that loses less than the perfect one.

    Attributes:
        says: what it predicts, in words.
        truth: what is true, in words.
        loses: its loss.
        perfect: the least loss of a perfect prediction of any confidence.
    """

    says: str
    truth: str
    loses: float
    perfect: float


@lru_cache(maxsize=8)
def beaten_by(probe: LossProbe) -> Rival | None:
    """The first rival that loses less by more than rounding, from simple ones to searched ones.

    Raises:
        Refused: the loss raised.
    """
    rival = _among_masks(probe)
    if rival is None and probe.pixels_alike:
        rival = _on_rare(probe) or _by_descent(probe)
    return rival


def _among_masks(probe: LossProbe) -> Rival | None:
    """In images of all classes."""
    perfect, truth = probe.least(probe.ids), "regions of all classes"
    for says, ids in _candidates(probe):
        curve = probe.curve(ids, probe.ids, _CONFIDENCES)
        if curve and min(curve) < perfect - _margin(perfect, max(curve)):
            return Rival(says, truth, min(curve), perfect)
    if probe.undecided < perfect - _margin(perfect, probe.value(probe.random(1), probe.ids)):
        return Rival("an undecided prediction", truth, probe.undecided, perfect)
    return None


def _candidates(probe: LossProbe) -> Iterator[tuple[str, Int64[Tensor, "B H W"]]]:
    ids = probe.ids
    for number in dict.fromkeys((*probe.classes[:3], probe.classes[-1])):
        yield f"class {number} everywhere", probe.constant(number)
    yield "the class after the true one", probe.wrong
    if len(probe.classes) > 2:
        yield "the class two after the true one", probe.next_class(probe.wrong)
    if not probe.pixels_alike:
        return  # Terms for smooth borders may like a nearly right prediction better.
    yield "the truth moved by three pixels", ids.roll((1, 3), (1, 2))
    yield "the truth of another sample", ids.roll(1, 0)
    generator = torch.Generator().manual_seed(3)
    noise = (torch.rand(ids.shape, generator=generator) < 0.2).to(ids.device)
    yield "the truth with a fifth of the pixels wrong", torch.where(noise, probe.wrong, ids)


def _on_rare(probe: LossProbe) -> Rival | None:
    """In images with few pixels of a class, or none."""
    if len(probe.classes) < 2:
        return None
    background, foreground = probe.classes[0], probe.classes[1]
    rare = probe.constant(background)
    rare[:, 5, 7:9] = foreground
    for truth, ids in (
        (f"two pixels of class {foreground} in each image", rare),
        (f"class {background} everywhere", probe.constant(background)),
        (f"class {foreground} everywhere", probe.constant(foreground)),
    ):
        perfect = probe.least(ids)
        for number in probe.classes[:3]:
            other = probe.constant(number)
            if torch.equal(other, ids) or math.isnan(perfect):
                continue
            curve = probe.curve(other, ids, _CONFIDENCES)
            if curve and min(curve) < perfect - _margin(perfect, max(curve)):
                return Rival(f"class {number} everywhere", truth, min(curve), perfect)
    return None


def _by_descent(probe: LossProbe) -> Rival | None:
    """What following the gradient leads to, from an undecided and from a random prediction."""
    perfect = probe.least(probe.ids)
    for start in (probe.random(5) / 10, probe.random(6)):
        logits, momentum = start, torch.zeros_like(start)
        for _ in range(_STEPS):
            gradient = _gradient_of_logits(probe, logits)
            if gradient is None or not torch.isfinite(gradient).all():
                return None
            momentum = 0.5 * momentum + gradient
            largest = momentum.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
            logits = logits - momentum / largest
        loss, before = probe.value(logits, probe.ids), probe.value(start, probe.ids)
        wrong = float((_decided(logits) != probe.ids).double().mean())
        if wrong > 0.1 and loss < perfect - _margin(perfect, before):
            says = f"a prediction that is wrong in {wrong:.0%} of the pixels"
            return Rival(says, "regions of all classes", loss, perfect)
    return None


def _gradient_of_logits(probe: LossProbe, logits: Tensor) -> Tensor | None:
    gradient = probe.gradient(logits, probe.ids)[1]
    if gradient is None or probe.kind == "logits":
        return gradient
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad((probe.scores(leaf) * gradient).sum(), leaf)[0]


def _decided(logits: Tensor) -> Int64[Tensor, "B H W"]:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def _margin(first: float, second: float) -> float:
    """By how much a rival must lose less, to be more than rounding."""
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.inf
    return 1e-3 * abs(second - first) + 1e-5 * max(abs(first), abs(second)) + 1e-9
