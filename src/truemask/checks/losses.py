"""Checks of a loss: any callable of a prediction and a target, asked by what it does.

The loss is called with predictions and masks that are made up, and its values and gradients are
compared with what holds for every sound loss: it changes with the prediction, does not change when
both sides are changed alike, and is least for the perfect prediction. Its source is never read.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import nn

from truemask.checks.failures import refuse_class
from truemask.checks.finding import Finding, Rule, worst_first
from truemask.checks.loss_activation import fitting_kind, wrong_activation
from truemask.checks.loss_axes import mixed_axes, perfect_not_best
from truemask.checks.loss_forms import Target, forms
from truemask.checks.loss_gradient import no_gradient
from truemask.checks.loss_ignored import ignored_pixels, non_finite
from truemask.checks.loss_probe import Kind, LossProbe, Refused
from truemask.checks.loss_weights import weight_without_effect, wrong_weight_in_loss
from truemask.checks.untouched import copied, name_of, untouched
from truemask.checks.weighting import as_weights, ignored_in_weight
from truemask.errors import UsageError

RULES: tuple[Rule, ...] = (
    no_gradient,
    wrong_activation,
    weight_without_effect,
    ignored_pixels,
    non_finite,
    mixed_axes,
    perfect_not_best,
)


def check_loss(
    loss: Callable[..., Any],
    *,
    num_classes: int,
    ignore_index: int | None = None,
    weight: Any = None,
    from_logits: bool = True,
    target: Target = "index",
) -> list[Finding]:
    """Look for faults of a loss, under a second, on the CPU or where its tensors are.

    Shapes are found out by trying: predictions (B, K, H, W), or (B, 1, H, W) and (B, H, W) for two
    classes, targets (B, H, W) or (B, 1, H, W), or (B, K, H, W) if one-hot. Where a loss can be
    called in several ways, it is checked in the way that fits it best.

    Args:
        loss: anything called with (prediction, target) that gives a tensor; of a tuple the first
            is the loss, of a mapping "loss".
        num_classes: K; 1 is a mask of two classes with one logit channel, 2 may be either.
        ignore_index: id of pixels that must not count; none checks nothing about them.
        weight: the class weights that the loss is meant to have, one a class, or its `pos_weight`.
        from_logits: whether it is given logits; otherwise probabilities.
        target: "index" for integer ids, "float" for masks of 0 and 1, "one_hot" for a channel a
            class; others are tried too where the loss does not take these.

    Raises:
        UsageError: the loss cannot be called in any of these ways, or an argument is wrong.
    """
    kind: Kind = "logits" if from_logits else "probabilities"
    name = name_of(loss)
    refuse_class(loss, name)
    troubles: list[str] = []
    groups = forms(num_classes, target)
    with untouched(loss):
        # Some losses take squares only: those with a mask that is turned over its diagonal, too.
        for square, dtype in product((False, True), (torch.float64, torch.float32)):
            copy = _as(copied(loss), dtype)
            for group in groups:
                ways = [
                    LossProbe(
                        copy,
                        form,
                        kind=kind,
                        ignore_index=ignore_index,
                        dtype=dtype,
                        name=name,
                        square=square,
                    )
                    for form in group
                ]
                callable_ = [way for way in ways if _takes(way, troubles)]
                if callable_:
                    return _best(callable_, weight)
    raise UsageError(
        f"{name} cannot be called with any of {sum(map(len, groups))} usual shapes: wrap it as "
        "lambda prediction, target: ..., for predictions (B, K, H, W) and masks (B, H, W). With "
        f"{groups[0][0]} it gave {troubles[0]}"
    )


def _takes(probe: LossProbe, troubles: list[str]) -> bool:
    """Whether the loss can be called, with logits or probabilities."""
    kinds: tuple[Kind, ...] = ("logits", "probabilities")
    for kind in (probe.kind, *(other for other in kinds if other != probe.kind)):
        try:
            probe.given(kind).value(probe.random(), probe.ids)
            return True
        except Refused as error:
            troubles.append(str(error))
    return False


def _best(ways: list[LossProbe], weight: Any) -> list[Finding]:
    """The findings of the way that fits the loss best: with the fewest errors."""
    fewest: list[Finding] | None = None
    for way in ways:
        found = worst_first(_examine(way, weight))
        if fewest is None or _severity(found) < _severity(fewest):
            fewest = found
        if not _severity(found)[0]:
            break
    return fewest or []


def _severity(findings: list[Finding]) -> tuple[int, int]:
    levels = [finding.level for finding in findings]
    return levels.count("error"), levels.count("warning")


def _examine(probe: LossProbe, weight: Any) -> Iterator[Finding]:
    """All rules, but those whose question a found fault makes pointless."""
    try:
        yield from _rules(probe, weight)
    except Refused as error:
        yield non_finite.finding(
            f"{probe.name} raises for some predictions that it must take: {error}",
            remedy="Let it take every finite prediction and every class id.",
            evidence={"error": str(error)},
        )


def _rules(probe: LossProbe, weight: Any) -> Iterator[Finding]:
    fitting = fitting_kind(probe)
    if fitting not in (None, probe.kind):
        yield from wrong_activation(probe)
        # Given what it expects, it may have further faults.
        probe = probe.given(fitting)
    dead = no_gradient(probe)
    yield from dead
    if any("values" in found.evidence for found in dead):
        return  # Nothing is learnt at all, so that nothing else can be asked.
    single = _as(copied(probe.loss), torch.float32)
    if probe.stochastic:
        yield from non_finite(probe.in_float32(single, ignoring=True))
        return
    mixed = [] if dead else mixed_axes(probe)
    yield from mixed
    if not mixed:
        wrong = list(wrong_activation(probe))
        yield from wrong or perfect_not_best(probe)
    yield from _weights(probe, weight)
    ignored = ignored_pixels(probe)
    yield from ignored
    sound = all(found.level != "error" for found in ignored)
    yield from non_finite(probe.in_float32(single, ignoring=sound))


def _weights(probe: LossProbe, weight: Any) -> Iterator[Finding]:
    if weight is None:
        yield from weight_without_effect(probe, None)
        return
    values = as_weights(weight, probe.form.classes)
    if len(values) != probe.form.classes:
        pixels = torch.ones(probe.form.classes).double().numpy()
        yield from ignored_in_weight(values, pixels, 0, [])
        return
    found = weight_without_effect(probe, values)
    yield from found
    if not found:
        yield from wrong_weight_in_loss(probe, values)


def _as(loss: Any, dtype: torch.dtype) -> Any:
    return loss.to(dtype) if isinstance(loss, nn.Module) else loss
