"""Whether a loss takes what it is given: logits, probabilities, each activated once."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import torch

from truemask.checks.finding import Finding, rule
from truemask.checks.loss_probe import CONFIDENCES, Kind, LossProbe, Refused
from truemask.checks.loss_rivals import beaten_by

FLOOR = 0.02
"""What a perfect prediction may lose, of what an undecided one does."""

Behaviour = Literal[
    "sound", "refused", "no number", "unbounded", "no logarithm", "blind", "deaf", "beaten", "floor"
]

KINDS: tuple[Kind, ...] = ("logits", "probabilities", "log-probabilities")


@rule("TM402", "wrong-activation", "error")
def wrong_activation(probe: LossProbe) -> Iterator[Finding]:
    """The loss is given probabilities where it expects logits, or the other way round.

    Why it matters: a sigmoid or softmax twice squeezes every prediction into a narrow band.
    Training still goes down, slowly, to a floor, and the probabilities mean nothing. In the
    published benchmarks a focal loss was given probabilities and took them for logits, so that it
    was not zero for a perfect prediction.

    How it decides: by perfect predictions of growing confidence, from logits of 0.5 to 1024, as
    what the loss was said to be given. A sound loss of them tends to a limit, no other prediction
    loses less, a wrong prediction has a gradient, and the limit is under 2 % of the loss of an
    undecided prediction. Where one of these fails but all hold for the other kind of prediction,
    the loss expects the other. Where only the limit is too high, for two compositions of classes,
    for images of twice the size and for images of one class, an activation is applied twice, or
    probabilities are clipped.

    False alarms: a loss that is meant to stay far above 0 for a perfect prediction.

    How to mend: apply exactly one activation between the last layer and the logarithm: the loss
    that has it inside (`CrossEntropyLoss`, `BCEWithLogitsLoss`, `from_logits=True`) takes logits.
    """
    given = behaviour(probe)
    if given == "sound":
        yield from _without_logarithm(probe)
        return
    fitting = fitting_kind(probe)
    if fitting is not None:
        yield wrong_activation.finding(
            f"{probe.name} expects {fitting}, but is given {probe.kind}: {_symptom(probe, given)}.",
            remedy=_instead(probe, fitting),
            evidence={"given": probe.kind, "expected": fitting, "symptom": given},
        )
    elif given == "floor":
        yield wrong_activation.finding(
            f"{probe.name} of a perfect prediction does not fall below {probe.perfect[-1]:.4g}, "
            f"where an undecided one loses {probe.undecided:.4g}: an activation is applied twice, "
            "or probabilities are clipped.",
            remedy=f"Apply one {_activation(probe)} in all: {_once(probe)}",
            evidence={"perfect": probe.perfect[-1], "undecided": probe.undecided},
        )
    elif given == "deaf":
        yield wrong_activation.finding(
            f"{probe.name} has no gradient where the prediction is wrong: it is clipped.",
            remedy="Clip probabilities no further than 1e-6, to keep the logarithm finite.",
            evidence={"given": probe.kind, "symptom": given},
        )


def fitting_kind(probe: LossProbe) -> Kind | None:
    """What the loss behaves soundly on; None if on nothing, what it is given comes first."""
    if behaviour(probe) == "sound":
        return probe.kind
    others = [kind for kind in KINDS if kind != probe.kind]
    if "probabilities" in others and _normalises(probe.given("probabilities")):
        others.remove("probabilities")  # Whatever else is wrong with it.
    return next((kind for kind in others if behaviour(probe.given(kind)) == "sound"), None)


def _normalises(probe: LossProbe) -> bool:
    """Whether a softmax makes logits of what is given: a constant for all classes is nothing."""
    if probe.form.channels == 1:
        return False
    logits = probe.random(1)
    try:
        values = [probe.value(logits, probe.ids, added=constant) for constant in (0.0, 0.3)]
    except Refused:
        return False
    return probe.same(*values)


@lru_cache(maxsize=16)
def behaviour(probe: LossProbe) -> Behaviour:
    """How the loss takes what it is given."""
    try:
        values = [probe.value(probe.random(start), probe.ids) for start in (0, 1)]
        if not all(map(math.isfinite, values)) or len(probe.perfect) < 5:
            return "no number"
        if _unbounded(probe.perfect):
            return "unbounded"
        if probe.kind == "probabilities" and _lacks_logarithm(probe):
            return "no logarithm"
        if _blind(probe):
            return "blind"
        if _deaf(probe):
            return "deaf"
        if beaten_by(probe) is not None:
            return "beaten"
        return "floor" if _stays_high(probe) else "sound"
    except Refused:
        return "refused"


def _unbounded(perfect: Sequence[float]) -> bool:
    """Whether ever more confidence is worth as much again, so that the loss falls for ever."""
    if len(perfect) < len(CONFIDENCES):
        return False
    before, later, last = perfect[-3:]
    return last < 0 and later - last > 0.5 * (before - later) > 1e-3 * abs(before)


def _blind(probe: LossProbe) -> bool:
    """Whether sure predictions lose as much if they are right as if they are wrong.

    A squared difference does that to logits. Label smoothing punishes the wrong ones far more.
    """
    right, wrong = probe.perfect, probe.surely_wrong
    if len(right) < len(CONFIDENCES) or len(wrong) < len(CONFIDENCES):
        return False
    return right[-1] > 10 * abs(probe.undecided) and right[-1] > 0.9 * wrong[-1] > 0


def _deaf(probe: LossProbe) -> bool:
    """Whether a wrong prediction has no gradient at all."""
    # Of different confidences: equal errors are ties, of which some losses see the first only.
    confidence = 3 + probe.random(3)[:, :1].tanh()
    gradient = probe.gradient(probe.pattern(probe.wrong, confidence), probe.ids)[1]
    return gradient is None or not bool((gradient.abs() > 1e-12).any())


def _stays_high(probe: LossProbe) -> bool:
    """Whether the loss of perfect predictions tends to a limit that it should be far below."""
    perfect, other = probe.perfect, probe.perfect_other
    drop = probe.undecided - perfect[-1]
    if perfect[-1] > min(perfect) + 1e-3 * abs(drop) or drop <= 0 or not other:
        return False  # Confidence is punished, as by label smoothing, or the curve is odd.
    if abs(perfect[0] - perfect[-1]) <= 1e-6 * abs(perfect[-1]):
        return False  # Only the direction of the logits counts.
    high = min(perfect[-1], other[-1]) > FLOOR * probe.undecided
    if not (high or perfect[-1] < 0) or not (_varies(probe) or (high and _is_bounded(probe))):
        return False
    return _high_at_any_size(probe) and (probe.pixels_alike or _high_inside(probe))


def _varies(probe: LossProbe) -> bool:
    """Whether the limit depends on how much there is of each class, as no constant term does."""
    perfect, other = probe.perfect[-1], probe.perfect_other[-1]
    drop = probe.undecided - perfect
    least = max(FLOOR * min(abs(perfect), abs(other)), 5e-3 * drop)
    return probe.pixels_alike and abs(perfect - other) > least


def _is_bounded(probe: LossProbe) -> bool:
    wrong = probe.surely_wrong
    return len(wrong) == len(CONFIDENCES) and abs(wrong[-1] - wrong[-2]) < 0.1 * abs(wrong[-2])


def _high_at_any_size(probe: LossProbe) -> bool:
    """A term for smoothing weighs half as much where there are twice as many pixels."""
    wide = probe.regions(favoured=probe.classes[0], share=0.5, scale=2)
    limit = probe.curve(wide, wide, CONFIDENCES[: len(probe.perfect)])[-1]
    return abs(limit) > 0.6 * abs(probe.perfect[-1])


def _high_inside(probe: LossProbe) -> bool:
    """Terms for the borders of regions are 0 where there is one region."""
    limits = []
    for number in probe.classes[:4]:
        ids = probe.constant(number)
        neutral = probe.value(torch.zeros_like(probe.random()), ids)
        curve = probe.curve(ids, ids)
        limits.append(curve[-1] / neutral if neutral > 0 and curve else 0.0)
    return max(limits) > FLOOR


def _without_logarithm(probe: LossProbe) -> Iterator[Finding]:
    """Logits that the loss itself turns into probabilities, and then takes no logarithm of."""
    if _lacks_logarithm(probe):
        yield wrong_activation.finding(
            f"{probe.name} is minus the mean probability of the true class: nll_loss expects "
            "log-probabilities, but is given probabilities.",
            remedy="Use log_softmax in front of nll_loss, or cross_entropy of the logits.",
            evidence={"given": "probabilities", "expected": "log-probabilities"},
        )


def _lacks_logarithm(probe: LossProbe) -> bool:
    """Whether it is minus the mean probability, as `nll_loss` of probabilities is."""
    if probe.form.channels == 1 or probe.kind == "log-probabilities":
        return False
    for start in (1, 2):
        logits = probe.random(start)
        own = logits.softmax(1).gather(1, probe.ids[:, None])
        if abs(probe.value(logits, probe.ids) + float(own.mean())) > 1e-6:
            return False
    return True


def _symptom(probe: LossProbe, given: Behaviour) -> str:
    perfect = [] if given in ("refused", "no number") else probe.perfect
    match given:
        case "refused":
            return "it raises"
        case "no number":
            return "it gives NaN or infinity"
        case "unbounded":
            return f"it falls without bound, to {perfect[-1]:.4g} for logits of {CONFIDENCES[-1]:g}"
        case "no logarithm":
            return "it is minus the mean probability of the true class"
        case "blind":
            return f"logits of {CONFIDENCES[-1]:g} lose as much if they are right as if wrong"
        case "deaf":
            return "it clips, and has no gradient where the prediction is wrong"
        case "beaten":
            return "a perfect prediction does not lose least"
        case _:
            return f"a perfect prediction still loses {perfect[-1]:.4g}"


def _activation(probe: LossProbe) -> str:
    return "sigmoid" if probe.form.channels == 1 else "softmax"


def _instead(probe: LossProbe, fitting: Kind) -> str:
    name = _activation(probe)
    match fitting:
        case "logits":
            return f"Give it the logits, without a {name} in the model or before the loss."
        case "probabilities":
            return f"Put a {name} in front of it, or use the loss that takes logits."
        case _:
            return f"Put a log_{name} in front of it, or use the loss that takes logits."


def _once(probe: LossProbe) -> str:
    if probe.kind == "logits":
        return "the model gives logits, so the loss applies it, once, and nothing before it does."
    return "the prediction holds probabilities, so the loss must not apply it again."
