"""Whether the class weights that a loss was meant to have are in it, each for its class."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from truemask.checks.finding import Finding, rule
from truemask.checks.loss_probe import HEIGHT, WIDTH, LossProbe, Refused
from truemask.checks.weighting import follows, moved, spread, wrong_weight

Values = Float64[np.ndarray, " K"]

_SURE = 12.0
"""Logits of surely wrong predictions: losses of regions have hardly a gradient there."""


@rule("TM403", "weight-without-effect", "error")
def weight_without_effect(probe: LossProbe, weights: Values | None) -> Iterator[Finding]:
    """Class weights or a `pos_weight` that change nothing.

    Why it matters: in the published project on edges a weight of 27 was computed, stored and named
    in the plot, and the printed loss shows that it never reached the loss: the two trainings that
    were compared were the same.

    How it decides: with `weight` given, the gradient of surely wrong pixels of each class is
    compared: it is proportional to the weight in every weighted cross-entropy, also in a sum with a
    loss of regions. It is reported where it is the same for all classes though the weights are not.
    Without `weight`, the values that the loss holds under a name with "weight", one a class, or
    "pos_weight", are changed in a copy of it; it is reported where no prediction is judged
    otherwise.

    False alarms: none are known. Where a loss has no gradient that could tell, nothing is said.

    How to mend: pass the weight on to where it is used: `CrossEntropyLoss(weight=weight)`,
    `BCEWithLogitsLoss(pos_weight=weight)`.
    """
    if weights is None:
        yield from _stored_in_vain(probe)
        return
    felt = influence(probe)
    if felt is None:
        return
    same, other = _comparable(probe, felt, weights)
    if len(other) > 1 and spread(other) > 0.01 and spread(same) < 1e-3:
        yield weight_without_effect.finding(
            f"{probe.name} counts every class alike, though the weights are {_list(weights)}.",
            remedy="Pass the weights on to the loss: weight= of CrossEntropyLoss, pos_weight= of "
            "BCEWithLogitsLoss.",
            evidence={"weights": weights.tolist(), "influence": (felt / felt.mean()).tolist()},
        )


def wrong_weight_in_loss(probe: LossProbe, weights: Values) -> Iterator[Finding]:
    """TM404 of a loss: the classes count, but not each by its weight."""
    felt = influence(probe)
    if felt is None:
        return
    counted = (weights > 0) & (felt > 0)
    given, own = weights[counted], felt[counted]
    if len(given) < 2 or spread(given) < 0.01 or spread(own) < 1e-3 or follows(own, given):
        return
    how = _explained(given, own)
    if how:
        yield wrong_weight.finding(
            f"{probe.name} counts the classes as {_list(own * given.sum() / own.sum())}, but their "
            f"weights are {_list(given)}: {how}.",
            remedy="Put the weights into the order of the class ids, and apply them once.",
            evidence={"weights": weights.tolist(), "influence": (felt / felt.mean()).tolist()},
        )


def _explained(given: Values, own: Values) -> str:
    """What was done to the weights; empty where nothing explains it."""
    if len(given) == 2:
        return "reversed" if (given[1] - given[0]) * (own[1] - own[0]) < 0 else ""
    if follows(own, 1 / given):
        return "their inverse is applied"
    if follows(own, given**2):
        return "they are applied twice"
    # A sum with an unweighted loss is no longer proportional, but still a straight line.
    in_order = np.corrcoef(given, own)[0, 1]
    if in_order < 0.999 and np.corrcoef(np.sort(given), np.sort(own))[0, 1] > 0.99999:
        return "they are in another order than the classes" + moved(own, given)
    return ""


def influence(probe: LossProbe) -> Values | None:
    """How much a surely wrong pixel of each class counts; None where the loss cannot tell.

    The gradient with respect to the score of the true class. Losses of regions have hardly one
    there, so that the pixel-wise part of a sum shows; if there is none, that of an undecided
    prediction is taken.
    """
    columns = len(probe.classes) * -(-WIDTH // len(probe.classes))
    order = torch.tensor(list(probe.classes), device=probe.device)
    # Equally many pixels of each class: losses of regions treat classes alike then.
    rows = columns if probe.square else max(8, HEIGHT * WIDTH // columns)
    ids = order.repeat(columns // len(order)).expand(probe.batch, rows, columns).contiguous()
    sure = _pull(probe, probe.pattern(probe.next_class(ids), _SURE), ids)
    undecided = _pull(probe, torch.zeros_like(probe.pattern(ids)), ids)
    if sure is None or undecided is None:
        return None
    felt = sure if sure.max() > 1e-3 * undecided.max() else undecided
    return felt if felt.max() > 0 else None


def _pull(probe: LossProbe, logits: Tensor, ids: Tensor) -> Values | None:
    try:
        gradient = probe.gradient(logits, ids)[1]
    except Refused:
        return None
    if gradient is None or not torch.isfinite(gradient).all():
        return None
    own = gradient[:, 0] if probe.form.channels == 1 else gradient.gather(1, ids[:, None])[:, 0]
    means = [float(own[ids == number].abs().mean()) for number in probe.classes]
    felt = np.zeros(probe.form.classes)
    felt[list(probe.classes)] = means
    return felt


def _comparable(probe: LossProbe, felt: Values, weights: Values) -> tuple[Values, Values]:
    """Influence and weight of classes that an unweighted loss treats alike.

    The background is left out of many losses of regions, so it is left out here unless there are
    two classes.
    """
    first = 0 if len(probe.classes) == 2 else 1
    places = list(probe.classes)[first:]
    return felt[places], weights[places]


def _stored_in_vain(probe: LossProbe) -> Iterator[Finding]:
    """Weights in the loss that can be changed without changing it."""
    if not isinstance(probe.loss, nn.Module):
        return
    before = _values(probe)
    for path, module in probe.loss.named_modules():
        for key, value in _stored(module, probe.form.classes):
            _set(module, key, _changed(value))
            try:
                after = _values(probe)
            except Refused:
                continue
            finally:
                _set(module, key, value)
            if all(probe.same(one, two) for one, two in zip(before, after, strict=True)):
                where = f"{path}.{key}" if path else key
                yield weight_without_effect.finding(
                    f"{probe.name} holds the weights `{where}`, but changing them changes nothing.",
                    remedy=f"Use {where} where the loss is computed, or remove it.",
                    evidence={"attribute": where},
                )


def _values(probe: LossProbe) -> list[float]:
    return [probe.value(probe.random(start), probe.ids) for start in (1, 2)]


def _stored(module: nn.Module, classes: int) -> list[tuple[str, Any]]:
    """Buffers and attributes that are weights of the classes by name and length."""
    found = []
    for key, value in (*module._buffers.items(), *vars(module).items()):
        if "weight" not in key or value is None or isinstance(value, bool):
            continue
        if isinstance(value, Tensor):
            fits = value.is_floating_point() and value.numel() in (classes, 1)
            length = value.numel()
        elif isinstance(value, list | tuple):
            fits = all(isinstance(item, int | float) for item in value)
            length = len(value)
        else:
            fits, length = isinstance(value, float), 1
        if fits and (length == classes or key == "pos_weight"):
            found.append((key, value))
    return found


def _changed(value: Any) -> Any:
    """Other weights, in other proportions."""
    if isinstance(value, Tensor):
        factors = torch.arange(2.0, 2.0 + value.numel(), device=value.device)
        return value * factors.view_as(value).to(value.dtype) + 0.5
    if isinstance(value, list | tuple):
        return type(value)(item * (place + 2) + 0.5 for place, item in enumerate(value))
    return 2 * value + 0.5


def _set(module: nn.Module, key: str, value: Any) -> None:
    if key in module._buffers:
        module._buffers[key] = value
    else:
        setattr(module, key, value)


def _list(values: Sequence[float] | Values) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"
