"""Whether a model can learn its batch: TM510 and TM511."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.model_activation import ask_loss
from truemask.checks.model_probe import ModelProbe
from truemask.checks.untouched import seed

_TOO_HIGH = 3.0
"""Times the loss of a uniform prediction."""

_RATES = (1e-3, 1e-2, 1e-4, 1e-1, 1e-5)
_STEPS = 20
_MOVED = 0.01
"""Share of the loss that a training that works takes off at least."""


@rule("TM510", "unexpected-initial-loss", "warning")
def unexpected_initial_loss(probe: ModelProbe) -> Iterator[Finding]:
    """The loss before training is far above that of a uniform prediction, or no number.

    Why it matters:
        A new network knows nothing, and should say so: all classes alike, log K for the
        cross-entropy of K classes. One that begins at thirty times that gets images that were
        never scaled, as in one of the five published projects, or weights of a wrong size: the
        first epochs only undo it, and saturated units stay dead.

    How it decides:
        The loss of the example batch (a crop of it, in training mode) is compared with the loss
        of the same masks for logits of zero, so that class weights, ignored pixels and the kind of
        loss are on both sides. More than three times as much is a warning, NaN or infinity an
        error. Less is no finding: trained weights begin lower. A loss that does not take
        logits is left alone.

    False alarms:
        Weights that were trained for other classes.

    How to mend:
        Scale the images (0-255 to 0-1, then mean and standard deviation), and put a normalisation
        into the network or initialise it by He et al.
    """
    if probe.loss is None or probe.small_ids is None:
        return
    answer = ask_loss(probe)
    with torch.no_grad():
        logits = probe.predict(probe.small, model=probe.independent())
        loss = probe.initial(logits)
        uniform = probe.initial(torch.zeros_like(logits))
    if loss is None or uniform is None or not math.isfinite(float(uniform)):
        return
    start, reference = float(loss), float(uniform)
    evidence = {
        "loss": start if math.isfinite(start) else str(start),
        "uniform": reference,
        "logits_deviation": float(logits.std(correction=0)),
        "images_range": [probe.low, probe.high],
    }
    if not math.isfinite(start):
        yield unexpected_initial_loss.finding(
            f"The loss of the example batch is {start} before any training; the images reach from "
            f"{probe.low:g} to {probe.high:g}.",
            remedy="Look for values that are no number in images and outputs, and scale the "
            "images.",
            level="error",
            evidence=evidence,
        )
    elif answer is not None and answer.expects_logits and start > _TOO_HIGH * reference > 0:
        yield unexpected_initial_loss.finding(
            f"The loss before training is {start:.3g}, {start / reference:.1f} times that of a "
            f"uniform prediction ({reference:.3g}): the logits have a standard deviation of "
            f"{evidence['logits_deviation']:.3g}, for images from {probe.low:g} to "
            f"{probe.high:g}.",
            remedy="Scale the images before the model, and normalise or initialise its layers so "
            "that the first logits are small.",
            evidence=evidence,
        )


@rule("TM511", "cannot-overfit", "error")
def cannot_overfit(probe: ModelProbe, seconds: float = 5.0) -> Iterator[Finding]:
    """The model cannot learn even one crop by heart.

    Why it matters:
        The cheapest test of a training is whether a few pixels can be learnt by heart. Where they
        cannot, no amount of data helps: the output does not depend on the image, or the gradient
        ends on the way. The loss may still fall a little, as the output learns how frequent
        classes are. In one of the five published projects it was constant for a hundred epochs.

    How it decides:
        Only what is certain is said. With noise on all parameters, so that zeros at the start do
        not mislead: the output is the same for another image (in both modes); it is the same at
        all pixels, where the masks are not; two logits differ by a constant everywhere.
        Then, if there are a loss and masks, copies are trained on a crop with Adam and learning
        rates from 1e-5 to 1e-1, twenty steps each: an error is a loss that no rate lowers by 1 %,
        though it begins above half of the uniform prediction's. The first rate that does ends
        the test. If time runs out before, nothing is said.

    False alarms:
        None known.

    How to mend:
        Follow the image through forward: a variable that is overwritten or not used, a
        multiplication by zero, a saturated activation on unscaled images, a `detach()`.
    """
    faults = list(_structural(probe))
    yield from faults
    if not faults and probe.loss is not None and probe.small_ids is not None:
        yield from _untrainable(probe, seconds)


def _structural(probe: ModelProbe) -> Iterator[Finding]:
    if probe.main is None or not probe.main.tensor.is_floating_point():
        return
    first, second = _shaken_outputs(probe, training=False)
    where = probe.main.place
    scale = float(first.abs().max())
    if not math.isfinite(scale):
        return
    if _same(first, second, scale):
        again = _shaken_outputs(probe, training=True)
        if _same(*again, float(again[0].abs().max())):
            yield cannot_overfit.finding(
                "The output does not depend on the image: another image gives the same output.",
                remedy="Look in forward for a variable that is not used, is overwritten or is "
                "multiplied by zero.",
                where=where,
                evidence={"change": float((first - second).abs().max()), "largest": scale},
            )
        return
    both = torch.cat([first, second]).double()
    spread = (both - both.mean((2, 3), keepdim=True)).abs().amax((0, 2, 3))
    if both.shape[2] * both.shape[3] > 1 and float(spread.max()) <= 1e-6 * scale:
        yield cannot_overfit.finding(
            "The output is the same at all pixels of an image: it is a verdict on the image, not a "
            "mask.",
            remedy="Keep the height and width of the features: no global pooling before the head.",
            where=where,
            evidence={"spread": float(spread.max()), "largest": scale},
        )
        return
    yield from _tied(both, where)


def _shaken_outputs(
    probe: ModelProbe, *, training: bool
) -> tuple[Float[Tensor, "B L H W"], Float[Tensor, "B L H W"]]:
    """Outputs for the crop and for noise."""
    model = probe.independent(probe.shaken)
    if training:
        for module, mode in zip(model.modules(), probe.modes.values(), strict=True):
            module.training = mode
    with torch.no_grad():
        first = probe.predict(probe.small, model=model)
        second = probe.predict(probe.random_like(probe.small, start=9), model=model)
    return first, second


def _same(first: Tensor, second: Tensor, scale: float) -> bool:
    return float((first - second).abs().max()) <= 1e-6 * scale


def _tied(outputs: Float[Tensor, "B L H W"], where: str) -> Iterator[Finding]:
    """Pairs of channels whose difference is the same everywhere."""
    channels = outputs.transpose(0, 1).flatten(1)
    channels = channels[:, :: max(channels.shape[1] // 2000, 1)]
    centred = channels - channels.mean(1, keepdim=True)
    scale = float(centred.abs().max())
    distances = torch.cdist(centred, centred, p=math.inf)
    tied = (distances <= 1e-6 * scale).triu(1).nonzero().tolist()
    if not tied or scale == 0:
        return
    pairs = ", ".join(f"{a} and {b}" for a, b in tied[:5])
    yield cannot_overfit.finding(
        f"The outputs of the channels {pairs} differ by the same amount at every pixel: the model "
        "cannot tell these classes apart.",
        remedy="Give each class weights of its own in the last layer.",
        where=where,
        evidence={"channels": tied[:50]},
    )


@dataclass
class _Trial:
    """One short training: the rate, and the losses of its steps."""

    rate: float
    losses: list[float]


def _untrainable(probe: ModelProbe, seconds: float) -> Iterator[Finding]:
    trials: list[_Trial] = []
    end = time.monotonic() + seconds
    uniform = probe.initial(torch.zeros_like(probe.small_output))
    if uniform is None or not math.isfinite(float(uniform)):
        return
    for rate in _RATES:
        trial = _train(probe, rate, end=end)
        if trial is None or len(trial.losses) <= _STEPS or not math.isfinite(trial.losses[0]):
            return
        start = trial.losses[0]
        if start < 0.5 * float(uniform) or min(trial.losses) < start - _MOVED * abs(start):
            return
        trials.append(trial)
    start = trials[0].losses[0]
    lowest = min(min(trial.losses) for trial in trials)
    yield cannot_overfit.finding(
        f"Adam does not lower the loss of one crop in {_STEPS} steps at any learning rate from "
        f"{min(_RATES):g} to {max(_RATES):g}: it begins at {start:.4g}, and {lowest:.4g} is the "
        "lowest.",
        remedy="Look for what blocks the gradient: a detach(), a saturated or clamped output, "
        "images that are not scaled.",
        evidence={"start": start, "lowest": lowest, "rates": list(_RATES), "steps": _STEPS},
    )


def _train(probe: ModelProbe, rate: float, *, end: float) -> _Trial | None:
    """Train a copy; stops as soon as the loss has fallen, or time is out."""
    model = probe.independent()
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return None
    optimizer = torch.optim.Adam(parameters, lr=rate)
    trial = _Trial(rate, [])
    for _ in range(_STEPS + 1):
        loss = _loss_of(probe, model)
        if loss is None or not loss.requires_grad:
            return None
        trial.losses.append(float(loss.detach()))
        if time.monotonic() > end or trial.losses[-1] < (1 - _MOVED) * trial.losses[0]:
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return trial


def _loss_of(probe: ModelProbe, model: nn.Module) -> Tensor | None:
    seed(0)
    return probe.initial(probe.predict(probe.small, model=model))


RULES: tuple[Rule, ...] = (unexpected_initial_loss, cannot_overfit)
