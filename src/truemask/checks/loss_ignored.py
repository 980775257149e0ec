"""Whether ignored pixels stay out of a loss, and nothing in a batch makes it NaN or infinite."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from truemask.checks.finding import LEVELS, Finding, Level, rule
from truemask.checks.loss_probe import LossProbe, Refused

LARGE = (100.0, 1e4, 65504.0)
"""Logits that a network can give; the last is the largest number of half precision."""


@rule("TM406", "ignored-pixels-in-loss", "error")
def ignored_pixels(probe: LossProbe) -> Iterator[Finding]:
    """Ignored pixels change the loss.

    Why it matters: padding and unlabelled pixels are then trained on as if they were a class. In
    the published project on edges, padded pixels counted as non-edges in the weight, the loss and
    the metric.

    How it decides: a third of the pixels get the ignored id. It is an error where the loss raises,
    where other predictions at these pixels change its value, or where its gradient there is not 0.
    It is a warning where the loss of the pixels that count changes with the number of ignored ones
    beside them, against the same loss of a mask cut to those that count: a mean over all pixels,
    with zeros at ignored ones, shrinks the loss of images with much padding.

    False alarms: none are known. The warning is not given where neighbours matter, because a cut
    changes them.

    How to mend: `ignore_index=` where the loss has it; otherwise select the pixels that count
    first, `valid = target != ignore_index`, and divide by `valid.sum()`.
    """
    if probe.ignore_index is None:
        return
    blanks = (None, 0.0) if probe.form.target == "one_hot" else (None,)
    found = [list(_with_ignored(probe, blank)) for blank in blanks]
    yield from min(found, key=len)


def _with_ignored(probe: LossProbe, blank: float | None) -> Iterator[Finding]:
    ids, ignored = _partly_ignored(probe)
    logits = probe.random(1)
    other = torch.where(ignored[:, None], 4 * probe.random(2) + 3, logits)
    number = probe.ignore_index
    try:
        before, gradient = probe.gradient(logits, ids, blank=blank)
        after = probe.value(other, ids, blank=blank)
    except Refused as error:
        yield ignored_pixels.finding(
            f"{probe.name} cannot take targets with the ignored id {number}: {error}",
            remedy=_LEAVE_OUT,
            evidence={"ignore_index": number, "error": str(error)},
        )
        return
    if not math.isfinite(before):
        yield ignored_pixels.finding(
            f"{probe.name} is {before} where a third of the pixels has the ignored id {number}.",
            remedy=_LEAVE_OUT,
            evidence={"ignore_index": number, "value": before},
        )
        return
    there = _largest(gradient, ignored)
    if not probe.same(before, after) or there > 1e-6 * _largest(gradient, ~ignored):
        yield ignored_pixels.finding(
            f"{probe.name} changes from {before:.6g} to {after:.6g} when only predictions at "
            f"pixels with the ignored id {number} change.",
            remedy=_LEAVE_OUT,
            evidence={"ignore_index": number, "values": [before, after], "gradient_there": there},
        )
    else:
        yield from _diluted(probe, blank)


_LEAVE_OUT = (
    "Give the loss its ignore_index, or select the pixels that count, target != ignore_index, "
    "before anything is computed."
)


def _diluted(probe: LossProbe, blank: float | None) -> Iterator[Finding]:
    """Ignoring half of each image against cutting it off."""
    if not probe.pixels_alike or probe.ignore_index is None or probe.square:
        return
    logits, ids = probe.random(1), probe.ids.clone()
    half = ids.shape[1] // 2
    cut = probe.value(logits[:, :, :half], ids[:, :half], blank=blank)
    ids[:, half:] = probe.ignore_index
    ignoring = probe.value(logits, ids, blank=blank)
    if abs(cut - ignoring) > 1e-3 * max(abs(cut), abs(ignoring)):
        yield ignored_pixels.finding(
            f"{probe.name} is {ignoring:.4g} where half of each image is ignored, but {cut:.4g} "
            f"for the other half alone: ignored pixels count in its mean, a factor of "
            f"{ignoring / cut if cut else math.nan:.3g}.",
            level="warning",
            remedy="Divide by the number of pixels that count, not by all of them.",
            evidence={"half_ignored": ignoring, "half_cut_off": cut},
        )


@rule("TM407", "non-finite-loss", "error")
def non_finite(probe: LossProbe) -> Iterator[Finding]:
    """The loss or its gradient is NaN or infinite for a batch that can occur.

    Why it matters: one such batch fills all weights with NaN, hours into a training, and the next
    checkpoint is worthless; mixed precision skips the step without a word.

    How it decides: value and gradient are computed, in float32, for random predictions and masks of
    one class (an image without a positive pixel, one without a negative), and for predictions that
    are sure and right, sure and wrong, or both, with logits of 100, 10,000 and 65,504 (the largest
    of half precision). Up to 100 it is an error, above a warning. With an ignored id, a batch with
    one sample that is ignored as a whole is an error too; a batch of which every pixel is ignored
    is a note, because PyTorch's own mean over no pixels is NaN.

    False alarms: none are known; a network that is sure gives logits of 100.

    How to mend: take the losses that compute with logits (`binary_cross_entropy_with_logits`,
    `log_softmax`); otherwise clamp before the logarithm and before a root, and add a small number
    to a denominator. Divide by `valid.sum().clamp_min(1)`.
    """
    cases = sorted(_occurring(probe), key=lambda case: LEVELS.index(case[1]))
    for what, level, logits, ids in cases:
        blank = 0.0 if probe.form.target == "one_hot" else None
        try:
            value, gradient = probe.gradient(logits, ids, blank=blank)
        except Refused:
            continue
        wrong = "" if math.isfinite(value) else f"is {value}"
        if not wrong and gradient is not None and not torch.isfinite(gradient).all():
            wrong = f"is {value:.4g} but its gradient is NaN or infinite"
        if wrong:
            yield non_finite.finding(
                f"{probe.name} {wrong} for {what}.",
                level=level,
                remedy=_FINITE[level],
                evidence={"case": what, "value": value},
            )
            return


_FINITE: dict[Level, str] = {
    "error": "Compute with logits and log_softmax or logsigmoid, clamp before a logarithm or a "
    "root, and divide by at least a small number.",
    "warning": "Compute with logits and log_softmax or logsigmoid, which hold for any size.",
    "note": "Leave out images that are ignored as a whole, or divide by valid.sum().clamp_min(1).",
}

_Case = tuple[str, Level, Float[Tensor, "B L H W"], Int64[Tensor, "B H W"]]


def _occurring(probe: LossProbe) -> Iterator[_Case]:
    """What can occur."""
    logits = probe.random(1)
    yield "random predictions", "error", logits, probe.ids
    for number in probe.classes[:2] if len(probe.classes) == 2 else probe.classes[:1]:
        what = f"a batch in which every pixel is of class {number}"
        yield what, "error", logits, probe.constant(number)
        yield f"{what}, predicted surely and rightly", "warning", *_sure(probe, number, 100.0)
    if probe.ignore_index is not None:
        ids = probe.ids.clone()
        ids[0] = probe.ignore_index
        yield "a batch with one sample that is ignored as a whole", "error", logits, ids
    for size in LARGE:
        level: Level = "error" if size <= 100 else "warning"
        half = torch.where(probe.random(3)[:, :1] > 0, 1.0, -1.0)
        for what, sign in (("right", 1.0), ("wrong", -1.0), ("partly wrong", half)):
            says = f"predictions that are {what} with logits of {size:,.0f}"
            yield says, level, probe.pattern(probe.ids, size * sign), probe.ids
    zeros = torch.zeros_like(logits)
    yield "an undecided prediction, all logits 0", "warning", zeros, probe.ids
    if probe.ignore_index is not None:
        everything = probe.constant(probe.ignore_index)
        yield "a batch of which every pixel is ignored", "note", logits, everything


def _sure(
    probe: LossProbe, number: int, size: float
) -> tuple[Float[Tensor, "B L H W"], Int64[Tensor, "B H W"]]:
    ids = probe.constant(number)
    return probe.pattern(ids, size), ids


def _partly_ignored(
    probe: LossProbe,
) -> tuple[Int64[Tensor, "B H W"], Bool[Tensor, "B H W"]]:
    generator = torch.Generator().manual_seed(11)
    ignored = torch.rand(probe.ids.shape, generator=generator).to(probe.device) < 1 / 3
    assert probe.ignore_index is not None
    return probe.ids.masked_fill(ignored, probe.ignore_index), ignored


def _largest(gradient: Float[Tensor, "B L H W"] | None, where: Bool[Tensor, "B H W"]) -> float:
    if gradient is None:
        return 0.0
    return float(torch.where(where[:, None], gradient.abs(), 0.0).max())
