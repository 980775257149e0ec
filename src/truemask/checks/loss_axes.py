"""Whether prediction and target meet pixel by pixel, and the right answer is the best one."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from truemask.checks.finding import Finding, rule
from truemask.checks.loss_probe import LossProbe
from truemask.checks.loss_rivals import beaten_by

_AXES = {0: "the samples of the batch (axis 0)", 2: "the rows (axis 2)", 3: "the columns (axis 3)"}
_PLANE = "all pixels of an image (axes 2 and 3)"


@rule("TM408", "mixed-axes", "error")
def mixed_axes(probe: LossProbe) -> Iterator[Finding]:
    """The class axis is mixed with the pixel axes, or a softmax runs over the wrong one.

    Why it matters: `logits.view(-1, num_classes)` of a (B, K, H, W) tensor raises nothing and pairs
    every target with the scores of other pixels. In the published driving project a flattened
    target let the figures for city and other scenes look at one pixel of each image.

    How it decides: a sound loss does not change when prediction and target are changed alike. It is
    reported where adding a constant along samples, rows or columns changes nothing, as behind a
    softmax over that axis; where the order of the samples matters; where the order of the pixels
    matters and a perfect prediction does not lose least (of squares only, where it takes no other
    images, so that a mask turned over its diagonal is seen); where the order matters and,
    in an image of one class predicted alike everywhere, a change at one pixel changes the gradient
    of some far pixels but not of others. Differences count from 1e-9 of the loss on, 1e-5
    if it computes in float32.

    False alarms: none are known; losses in which neighbours matter treat equal surroundings alike.

    How to mend: `logits.movedim(1, -1).reshape(-1, num_classes)` beside `target.reshape(-1)`, and
    `softmax(dim=1)`.
    """
    axis = _softmax_axis(probe)
    if axis is not None:
        yield mixed_axes.finding(
            f"{probe.name} normalises over {axis}, not over the classes (axis 1): a constant added "
            "along it changes nothing.",
            remedy="Write softmax(dim=1), or log_softmax(dim=1).",
            evidence={"axis": axis},
        )
        return
    ids, logits = probe.ids, probe.random(1)
    before = probe.value(logits, ids)
    turned = probe.value(logits.roll(1, 0), ids.roll(1, 0))
    if not probe.same(before, turned):
        yield mixed_axes.finding(
            f"{probe.name} depends on the order of the samples in a batch: {before:.6g} against "
            f"{turned:.6g} for the same samples in another order, so a reshape mixes the batch "
            "axis with others.",
            remedy=_RESHAPE,
            evidence={"value": before, "other_order": turned},
        )
        return
    if probe.pixels_alike:
        return
    rival = beaten_by(probe)
    if rival is not None and _wrong_pull(probe) > 0.2:
        yield mixed_axes.finding(
            f"{probe.name} pairs targets with the scores of other pixels: it changes when the "
            "pixels of prediction and target are put into the same other order, and the perfect "
            f"prediction loses {rival.perfect:.4g}, but {rival.says} loses {rival.loses:.4g}.",
            remedy=_RESHAPE,
            evidence={"perfect": rival.perfect, "rival": rival.loses, "rival_says": rival.says},
        )
    elif not probe.square and _grouped_by_place(probe):
        yield mixed_axes.finding(
            f"{probe.name} treats equal pixels of an image by their place: a change at one pixel "
            "changes the gradient of some pixels far away but not of those around these, so a "
            "reshape or a softmax over a wrong axis groups them.",
            remedy=_RESHAPE,
        )


_RESHAPE = (
    "Move the class axis last before flattening, logits.movedim(1, -1).reshape(-1, num_classes), "
    "and flatten the target as it is."
)


@rule("TM409", "perfect-prediction-not-best", "error")
def perfect_not_best(probe: LossProbe) -> Iterator[Finding]:
    """A perfect prediction does not lose least.

    Why it matters: training then leads away from the truth, while its loss goes down. A sign, a
    `1 -` left out, or a smoothing term in one half of a fraction are enough.

    How it decides: the perfect prediction, at its best confidence from logits of 0.5 to 1024, is
    held against one class everywhere, each pixel's wrong class, the truth moved or of another
    sample, a fifth of the pixels wrong, no decision at all, and what 30 steps along the gradient
    lead to; for images of all classes, with two pixels of a class, and of one class only. A rival
    must lose less by 0.1 % of the difference between predictions. Each pixel's wrong class, surely
    predicted, must not even lose as little; and a prediction that gives each true class 95 % must
    not lose more than none at all, as under a reward for being unsure.

    False alarms: terms that want smooth borders may like a smoother mask better; losses in which
    neighbours matter are held against coarse rivals only. Label smoothing of 40 % and more.

    How to mend: compute the loss of the perfect prediction by hand; it is the least possible value,
    mostly 0.
    """
    rival = beaten_by(probe)
    if rival is not None:
        yield perfect_not_best.finding(
            f"{probe.name} of {rival.beats} is {rival.perfect:.4g}, but {rival.says} "
            f"loses only {rival.loses:.4g} (truth: {rival.truth}).",
            remedy="Look for a sign, a missing '1 -', or a smoothing term in only one half of a "
            "fraction: the perfect prediction must lose least.",
            evidence={
                "perfect": rival.perfect,
                "rival": rival.loses,
                "rival_says": rival.says,
                "truth": rival.truth,
            },
        )


def _softmax_axis(probe: LossProbe) -> str | None:
    """What a constant can be added along without changing the loss, other than the classes."""
    if probe.kind != "logits":
        return None
    ids, logits = probe.ids, probe.random(1)
    before = probe.value(logits, ids)
    shift = probe.random(2)
    constants = {_AXES[axis]: shift.narrow(axis, 0, 1) for axis in _AXES}
    for axis, constant in (*constants.items(), (_PLANE, shift[:, :, :1, :1])):
        if probe.same(probe.value(logits + 2 * constant, ids), before):
            return axis
    return None


def _wrong_pull(probe: LossProbe) -> float:
    """The share of pixels whose true class the gradient of an undecided prediction lowers."""
    logits = 0.1 * probe.random(4)
    gradient = probe.gradient(logits, probe.ids)[1]
    if gradient is None:
        return 0.0
    if probe.form.channels == 1:
        own = gradient[:, 0] * (1 - 2 * probe.ids)
        return float((own < 0).double().mean())
    return float((gradient.gather(1, probe.ids[:, None]) > 0).double().mean())


def _grouped_by_place(probe: LossProbe) -> bool:
    """Whether some of equal pixels, far from a changed one and from all edges, feel the change.

    In an image of one class, predicted alike everywhere, the prediction or the target of one pixel
    is changed. A loss in which neighbours matter treats far pixels alike, or changes smoothly with
    the distance.
    """
    number, other = probe.classes[-1], probe.classes[0]
    channel = 0 if probe.form.channels == 1 else number
    # No multiple of a usual K: groups of all classes at one pixel would cancel out.
    ids = torch.full((probe.batch, 17, 23), number, device=probe.device)
    same = 0.3 * probe.random(1)[:1, :, :1, :1]
    logits = same.expand(probe.batch, -1, 17, 23).contiguous()
    before = probe.gradient(logits, ids)[1]
    for row, column in ((6, 2), (1, 16), (9, 21)):
        pushed, changed = logits.clone(), ids.clone()
        pushed[0, channel, row, column] += 1.0
        changed[0, row, column] = other
        for after in (probe.gradient(pushed, ids)[1], probe.gradient(logits, changed)[1]):
            if before is None or after is None:
                return False
            if _stands_out(before, after, row, column):
                return True
    return False


def _stands_out(
    before: Float[Tensor, "B L H W"], after: Float[Tensor, "B L H W"], row: int, column: int
) -> bool:
    """Whether some far pixels' gradients changed by much more than those around them."""
    rows, columns = torch.arange(before.shape[2]), torch.arange(before.shape[3])
    near = ((rows - row).abs() < 7)[:, None] & ((columns - column).abs() < 7)
    near = near.to(before.device)
    least, felt = 1e-6 * before.abs().max(), after - before
    if 0 < (felt[..., ~near].abs() > least).sum() <= 2 * before.shape[1] + 2:
        return True  # A handful of pixels that have nothing to do with the changed one.
    inside = torch.zeros_like(near)
    inside[4:-4, 4:-4] = True
    far = inside & ~near
    at_first = before[..., far]
    if (at_first.amax(-1) - at_first.amin(-1)).max() > 0.1 * before.abs().max():
        return False  # Ties, of which a maximum takes the first, make equal pixels unequal.
    around = functional.avg_pool2d(felt, 3, 1, 1)
    largest = felt[..., far].abs().amax(-1)
    # At the corner of a window of neighbours 5 / 9 of the pixels around are outside of it.
    sharp = (felt - around)[..., far].abs().amax(-1) > 0.6 * largest
    return bool((sharp & (largest > least)).any())
