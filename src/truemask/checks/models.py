"""Checks of a model before it is trained: any `nn.Module` that takes images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from truemask.checks import (
    model_activation,
    model_alignment,
    model_field,
    model_learning,
    model_parameters,
    model_samples,
    model_shape,
)
from truemask.checks.batches import read_batch
from truemask.checks.finding import Finding, Rule, worst_first
from truemask.checks.model_activation import double_activation
from truemask.checks.model_alignment import shifted_output
from truemask.checks.model_copies import SingleValue
from truemask.checks.model_field import small_receptive_field
from truemask.checks.model_learning import cannot_overfit, unexpected_initial_loss
from truemask.checks.model_parameters import bias_before_normalisation, untrained_parameters
from truemask.checks.model_probe import ModelProbe
from truemask.checks.model_samples import (
    refused_normalisation,
    samples_influence_each_other,
    shared_state,
    single_value_normalisation,
)
from truemask.checks.model_shape import wrong_output_shape
from truemask.checks.untouched import untouched
from truemask.errors import UsageError


def check_model(
    model: nn.Module,
    example_batch: Any,
    *,
    num_classes: int,
    loss: Callable[..., Any] | None = None,
    optimizer: Any = None,
    num_logits: int | None = None,
    ignore_index: int = 255,
    structure_size: float | None = None,
    overfit_seconds: float = 5.0,
) -> list[Finding]:
    """Look for silent bugs in a model, by what it does with a batch.

    All probes work on copies: weights, buffers, modes, gradients and random numbers are as before.

    Args:
        model: takes images (B, C, H, W) and puts out logits (B, L, H, W), or them among others: in
            a mapping ("out", "logits"), a tuple, a list or an object.
        example_batch: as training gives it: images alone, (images, masks), a mapping or an object
            with both. Without masks nothing is said of the loss.
        num_classes: K, of the masks. Two classes may have one logit channel.
        loss: called with (logits, masks), as training does.
        optimizer: one, or several in a list; any object with `param_groups`.
        num_logits: L, where it is not `num_classes`.
        ignore_index: id of pixels that do not count.
        structure_size: how many pixels the model must see at once; without it, it is told
            from the masks.
        overfit_seconds: the most that may be spent on short trainings; 0 leaves them out.

    Returns:
        Findings, the worst first; none for a sound model.

    Raises:
        UsageError: the model does not take the batch or cannot be copied, or no images can be told
            in the batch.
    """
    if num_classes < 1:
        raise UsageError(f"num_classes is {num_classes}; it must be 1 or more")
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is a {type(model).__name__}: give a torch.nn.Module")
    channels = _channels(num_classes, num_logits)
    batch = read_batch(example_batch)
    with untouched(loss):
        probe = ModelProbe(
            model,
            batch,
            num_classes=num_classes,
            channels=channels,
            loss=loss,
            ignore_index=ignore_index,
        )
        try:
            found = list(wrong_output_shape(probe))
        except SingleValue as refusal:
            return [refused_normalisation(probe, refusal)]
        if probe.main is not None and probe.main.tensor.is_floating_point():
            found += _probe(probe, _listed(optimizer), structure_size, overfit_seconds)
        return worst_first(found)


def _probe(
    probe: ModelProbe, optimizers: Sequence[Any], structure_size: float | None, seconds: float
) -> Iterator[Finding]:
    for check, *arguments in (
        (single_value_normalisation,),
        (samples_influence_each_other,),
        (shared_state,),
        (shifted_output,),
        (double_activation,),
        (untrained_parameters, optimizers),
        (bias_before_normalisation,),
        (small_receptive_field, structure_size),
        (unexpected_initial_loss,),
        (cannot_overfit, seconds),
    ):
        try:
            yield from check(probe, *arguments)
        except UsageError:
            raise
        except Exception:  # A model that cannot be probed in this way is not thereby unsound.
            if STRICT:
                raise


STRICT = False
"""Whether a probe that fails on a model raises; for the tests of the checks."""


def _channels(num_classes: int, num_logits: int | None) -> tuple[int, ...]:
    if num_logits is not None:
        return (num_logits,)
    return (num_classes, 1) if num_classes == 2 else (num_classes,)


def _listed(optimizer: Any) -> list[Any]:
    if optimizer is None:
        return []
    listed = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
    for entry in listed:
        if not hasattr(entry, "param_groups"):
            raise UsageError(
                f"optimizer is a {type(entry).__name__} without param_groups: give a "
                "torch.optim.Optimizer or a list of them"
            )
    return listed


RULES: tuple[Rule, ...] = (
    *model_shape.RULES,
    *model_alignment.RULES,
    *model_activation.RULES,
    *model_samples.RULES,
    *model_parameters.RULES,
    *model_field.RULES,
    *model_learning.RULES,
)
