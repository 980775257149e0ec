"""Predictions that must not lose less than the perfect one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from truemask.checks.loss_probe import LossProbe

_CONFIDENCES = (0.5, 2.0, 8.0, 64.0)
_STEPS = 25
_ALL = "regions of all classes"


@dataclass(frozen=True)
class Rival:
    """A prediction that loses less than the perfect one.

    Attributes:
        says: what it predicts, in words.
        truth: what is true, in words.
        loses: its loss.
        perfect: the least loss of a perfect prediction of any confidence, or of what it beats.
        beats: what it beats, in words.
    """

    says: str
    truth: str
    loses: float
    perfect: float
    beats: str = "the perfect prediction"


@lru_cache(maxsize=8)
def beaten_by(probe: LossProbe) -> Rival | None:
    """The first rival that loses less by more than rounding, from simple ones to searched ones.

    One that is wrong everywhere need only lose as little.

    Raises:
        Refused: the loss raised.
    """
    rival = _among_masks(probe)
    if rival is None and probe.pixels_alike:
        rival = _if_sure(probe) or _on_rare(probe) or _by_descent(probe)
    return rival


def _among_masks(probe: LossProbe) -> Rival | None:
    """In images of all classes."""
    perfect, truth = probe.best, _ALL
    for says, ids in _candidates(probe):
        curve = probe.curve(ids, probe.ids, _confidences(probe))
        if curve and min(curve) < perfect - _margin(perfect, max(curve)):
            return Rival(says, truth, min(curve), perfect)
    if probe.undecided < perfect - _margin(perfect, probe.value(probe.random(1), probe.ids)):
        return Rival("an undecided prediction", truth, probe.undecided, perfect)
    return None


def _if_sure(probe: LossProbe) -> Rival | None:
    """Whether being sure and wrong is as good as being right, or being sure and right is bad."""
    perfect, undecided = probe.best, probe.undecided
    sure = probe.nearly_sure
    if undecided < sure - _margin(sure, probe.value(probe.random(1), probe.ids)):
        beats = "a right prediction that gives every true class 95 %"
        return Rival("an undecided prediction", _ALL, undecided, sure, beats)
    # Up to logits of 64: beyond, sums in float32 overflow in some.
    wrong = min(probe.surely_wrong[:7], default=math.nan)
    if undecided - perfect > _margin(perfect, undecided) and wrong - perfect < 1e-3 * (
        undecided - perfect
    ):
        return Rival("a sure prediction of the class after the true one", _ALL, wrong, perfect)
    return None


def _candidates(probe: LossProbe) -> Iterator[tuple[str, Int64[Tensor, "B H W"]]]:
    ids = probe.ids
    for number in dict.fromkeys((*probe.classes[:3], probe.classes[-1])):
        yield f"class {number} everywhere", probe.constant(number)
    yield "the class after the true one", probe.wrong
    if len(probe.classes) > 2:
        yield "the class two after the true one", probe.next_class(probe.wrong)
    if probe.square:
        yield "the truth with rows and columns exchanged", ids.transpose(1, 2)
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
    truths = (
        (f"two pixels of class {foreground} in each image", rare),
        (f"class {background} everywhere", probe.constant(background)),
        (f"class {foreground} everywhere", probe.constant(foreground)),
    )
    for truth, ids in truths[:1] if probe.many else truths:
        perfect = probe.least(ids)
        for number in probe.classes[:3]:
            other = probe.constant(number)
            if torch.equal(other, ids) or math.isnan(perfect):
                continue
            curve = probe.curve(other, ids, _confidences(probe))
            if curve and min(curve) < perfect - _margin(perfect, max(curve)):
                return Rival(f"class {number} everywhere", truth, min(curve), perfect)
    return None


def _by_descent(probe: LossProbe) -> Rival | None:
    """What following the gradient leads to, from an undecided and from a random prediction."""
    perfect = probe.best
    starts = (probe.random(5) / 10, probe.random(6))
    for start in starts[:1] if probe.many else starts:
        logits, momentum = start, torch.zeros_like(start)
        for _ in range(_STEPS // 2 if probe.many else _STEPS):
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
            return Rival(says, _ALL, loss, perfect)
    return None


def _gradient_of_logits(probe: LossProbe, logits: Tensor) -> Tensor | None:
    gradient = probe.gradient(logits, probe.ids)[1]
    if gradient is None or probe.kind == "logits":
        return gradient
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad((probe.scores(leaf) * gradient).sum(), leaf)[0]


def _decided(logits: Tensor) -> Int64[Tensor, "B H W"]:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def _confidences(probe: LossProbe) -> Sequence[float]:
    return _CONFIDENCES[1:3] if probe.many else _CONFIDENCES


def _margin(first: float, second: float) -> float:
    """By how much a rival must lose less, to be more than rounding."""
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.inf
    return 1e-3 * abs(second - first) + 1e-5 * max(abs(first), abs(second)) + 1e-9
