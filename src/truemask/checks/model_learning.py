"""Whether a model can learn its batch: TM510 and TM511."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.model_activation import ask_loss
from truemask.checks.model_obstacles import obstacles, same_everywhere
from truemask.checks.model_probe import ModelProbe

_TOO_HIGH = 2.0
"""Times the loss of a uniform prediction that is too much of large logits."""

_FAR_TOO_HIGH = 10.0
"""The same of any logits."""

_OFFSET_TOO_HIGH = 1.5
"""The same of the mean logits of the channels alone, where these prefer a class."""

_LARGE = 2.5
"""Standard deviation of logits within a channel; feature pyramids begin with up to 1.7."""

_SMALL = 1.0
"""The same where logits say little of the image yet."""

_PREFERRED = 2.0
"""Times that deviation by which the means of channels differ where a bias prefers a class."""

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
        loss are on both sides. NaN or infinity is an error. More than twice as much is a warning
        where the logits deviate by more than 2.5 within a channel; more than ten times as much
        always is. So is half as much again for the mean logits of the channels alone, over the
        whole batch, where logits deviate by less than 1 within a channel and the means lie twice
        as far apart: a bias that prefers a rare class. Less is no finding: trained weights begin
        lower, and sound feature pyramids reach five times as much by chance. A loss that does not
        take logits is left alone.

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
    means = logits.mean((0, 2, 3), keepdim=True)
    deviation = float((logits - means).std(correction=0))
    evidence = {
        "loss": start if math.isfinite(start) else str(start),
        "uniform": reference,
        "logits_deviation": deviation,
        "logits_means": means.flatten().tolist()[:50],
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
        return
    if answer is None or not answer.expects_logits or reference <= 0:
        return
    biased = _cost_of_means(probe, means)
    if start > (_TOO_HIGH if deviation > _LARGE else _FAR_TOO_HIGH) * reference:
        yield unexpected_initial_loss.finding(
            f"The loss before training is {start:.3g}, {start / reference:.1f} times that of a "
            f"uniform prediction ({reference:.3g}): the logits have a standard deviation of "
            f"{deviation:.3g} within a channel, for images from {probe.low:g} to "
            f"{probe.high:g}.",
            remedy="Scale the images before the model, and normalise or initialise its layers so "
            "that the first logits are small.",
            evidence=evidence,
        )
    elif (
        deviation < _SMALL and _offset(means) > _PREFERRED * deviation and biased > _OFFSET_TOO_HIGH
    ):
        yield unexpected_initial_loss.finding(
            f"The logits begin with means that prefer some classes, {_listed(means)}, and by these "
            f"alone the loss of the batch is {biased:.1f} times that of a uniform prediction.",
            remedy="Begin with a bias of 0 in the last layer, or with the logarithms of the "
            "classes' frequencies.",
            evidence=evidence | {"loss_of_means": biased},
        )


def _offset(means: Float[Tensor, "1 L 1 1"]) -> float:
    """How far the means of the channels lie apart; of one channel, from 0."""
    single = means.shape[1] == 1
    return float(means.abs().max() if single else means.std(correction=0))


def _cost_of_means(probe: ModelProbe, means: Float[Tensor, "1 L 1 1"]) -> float:
    """The loss of the same logits at all pixels of the batch, as a share of a uniform one's."""
    call, ids = probe.loss_call, probe.ids
    if call is None or ids is None:
        return 0.0
    everywhere = means.expand(len(ids), -1, *ids.shape[1:]).contiguous()
    with torch.no_grad():
        uniform = float(call(torch.zeros_like(everywhere), ids))
        return float(call(everywhere, ids)) / uniform if uniform > 0 else 0.0


def _listed(means: Float[Tensor, "1 L 1 1"]) -> str:
    return ", ".join(f"{mean:.2g}" for mean in means.flatten().tolist()[:5])


@rule("TM511", "cannot-overfit", "error")
def cannot_overfit(probe: ModelProbe, seconds: float = 5.0) -> Iterator[Finding]:
    """The model cannot learn even one crop by heart.

    Why it matters:
        The cheapest test of a training is whether a few pixels can be learnt by heart. Where they
        cannot, no amount of data helps: the output does not depend on the image, or the gradient
        ends on the way. The loss may still fall, as the output learns how frequent classes are. In
        one of the five published projects it was constant for a hundred epochs.

    How it decides:
        Only what is certain is said. With noise on all parameters, so that zeros at the start do
        not mislead: the output is the same for another image (in both modes, or in training mode
        alone); it is the same at all pixels, where the masks are not; two logits differ by a
        constant everywhere. A warning is given where a random layer, given the same again, puts
        out more than 85 % noise (a dropout's share is what it drops); where a chequered pattern of
        4 pixels and all finer ones change the output by less than 5 % of what smooth noise does,
        and more than 5 % of the labels lie in structures as fine; and where neighbouring labels
        agree no more than by chance.
        Then, if there are a loss and masks, copies are trained on a crop with Adam and learning
        rates from 1e-5 to 1e-1, twenty steps each: an error is a loss that no rate lowers by 1 %,
        though it begins above half of the uniform prediction's, or an output that stays the same at
        all pixels with two rates, as what can be said without an image. The first rate that does
        better ends the test. If time runs out before, nothing is said.

    False alarms:
        None known.

    How to mend:
        Follow the image through forward: a variable that is overwritten or not used, a
        multiplication by zero, a saturated activation on unscaled images, a `detach()`, layers
        whose weights are all 0.
    """
    found = list(obstacles(probe))
    where = probe.main.place if probe.main is not None else ""
    for obstacle in found:
        yield cannot_overfit.finding(
            obstacle.message,
            remedy=obstacle.remedy,
            where=where,
            level=obstacle.level,
            evidence=obstacle.evidence,
        )
    blocked = any(obstacle.level == "error" for obstacle in found)
    if not blocked and probe.loss is not None and probe.small_ids is not None:
        yield from _untrainable(probe, seconds)


@dataclass
class _Trial:
    """One short training.

    Attributes:
        rate: of learning.
        losses: of its steps.
        constant: whether the output is still the same at all pixels of an image.
    """

    rate: float
    losses: list[float]
    constant: bool = False

    @property
    def lowered(self) -> bool:
        """Whether the loss has fallen clearly."""
        return min(self.losses) < self.losses[0] - _MOVED * abs(self.losses[0])


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
        if trial.losses[0] < 0.5 * float(uniform) or (trial.lowered and not trial.constant):
            return
        trials.append(trial)
        # Weights without a gradient stay where they are at any rate: two tell enough.
        if len(trials) == 2 and all(trial.constant for trial in trials):
            if _has_classes(probe):
                yield _only_constant(trials)
            return
    if any(trial.lowered for trial in trials):
        return
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


def _has_classes(probe: ModelProbe) -> bool:
    """Whether the crop shows more than one class, so that one verdict for all pixels is wrong."""
    ids = probe.small_ids
    if ids is None:
        return False
    counts = ids[(ids >= 0) & (ids < probe.num_classes)].bincount()
    return int((counts > 0).sum()) > 1


def _only_constant(trials: list[_Trial]) -> Finding:
    lowest = min(min(trial.losses) for trial in trials)
    rates = [trial.rate for trial in trials]
    return cannot_overfit.finding(
        f"After {_STEPS} steps of Adam the output is still the same at all pixels, with learning "
        f"rates of {rates[0]:g} and {rates[1]:g}: nothing but the frequency of the classes is "
        "learnt.",
        remedy="Initialise weights at random: of layers that are all 0 no layer gets a gradient.",
        evidence={"start": trials[0].losses[0], "lowest": lowest, "rates": rates},
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
        prediction = probe.predict(probe.small, model=model)
        loss = probe.initial(prediction)
        if loss is None or not loss.requires_grad:
            return None
        trial.losses.append(float(loss.detach()))
        trial.constant = same_everywhere(prediction.detach())
        if time.monotonic() > end or (trial.lowered and not trial.constant):
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return trial


RULES: tuple[Rule, ...] = (unexpected_initial_loss, cannot_overfit)
