"""Whether samples stay apart, and layers too: TM504, TM506 and TM507."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.model_copies import SingleValue, is_single_value, settle
from truemask.checks.model_layers import first_tensor, watching
from truemask.checks.model_probe import ModelProbe
from truemask.checks.untouched import seed

_CONSEQUENCE = 0.1
"""Share of the output's variation by which evaluation may differ from training on one batch."""


@rule("TM504", "shared-state", "error")
def shared_state(probe: ModelProbe) -> Iterator[Finding]:
    """A layer with running statistics is used more than once, so that they mix.

    Why it matters:
        A batch norm normalises by the batch's statistics in training, and by its running ones in
        evaluation. One that serves three layers, as in one of the five published projects, keeps
        the mean of three distributions: right for none of them. Training looks fine; what is
        evaluated and shipped is another function.

    How it decides:
        The calls of every layer are counted in one forward pass in training mode, and which buffers
        change with the input. Of a layer that is called more than once and has such buffers,
        the consequence is measured: the same batch goes through a copy whose statistics were
        collected on that very batch, once with the layer in training and once in evaluation mode. A
        layer of its own would give the same but for rounding. A difference of more than 10 % of the
        output's standard deviation is an error. Sharing convolutions, ReLUs, pooling
        or dropout is sound, and so is a batch norm whose inputs are distributed alike, as in a
        network with two branches of the same weights.

    False alarms:
        None known.

    How to mend:
        Give each place its own batch norm: build it in the loop, `nn.ModuleList(nn.BatchNorm2d(c)
        for _ in range(n))`, not before it.
    """
    for name, given in _called_again(probe).items():
        consequence = _consequence(probe, name)
        if not consequence > _CONSEQUENCE:
            continue
        names = [
            other
            for other, module in probe.model.named_modules(remove_duplicate=False)
            if module is probe.model.get_submodule(name)
        ]
        means = ", ".join(f"{mean:.3g}" for mean, _ in given)
        deviations = ", ".join(f"{deviation:.3g}" for _, deviation in given)
        yield shared_state.finding(
            f"{name} is called {len(given)} times in one forward pass, with inputs of the means "
            f"{means} and the standard deviations {deviations}, and keeps one set of running "
            f"statistics for all: in evaluation mode the output differs from that in training mode "
            f"by {consequence:.0%} of its standard deviation.",
            remedy="Give each place a normalisation layer of its own.",
            where=name,
            evidence={
                "calls": len(given),
                "names": names,
                "means": [mean for mean, _ in given],
                "deviations": [deviation for _, deviation in given],
                "difference": round(consequence, 4),
            },
        )


def _called_again(probe: ModelProbe) -> dict[str, list[tuple[float, float]]]:
    """Layers called more than once whose buffers follow the input; mean and deviation of each."""
    first, given = _buffers_after(probe, probe.small)
    if all(len(calls) < 2 for calls in given.values()):
        return {}
    second, _ = _buffers_after(probe, probe.random_like(probe.small))
    return {
        name: calls
        for name, calls in given.items()
        if len(calls) > 1
        and any(not torch.equal(first[key], second[key]) for key in first if key[0] == name)
    }


def _buffers_after(
    probe: ModelProbe, images: Tensor
) -> tuple[dict[tuple[str, str], Tensor], dict[str, list[tuple[float, float]]]]:
    """Buffers after a pass in training mode, and mean and deviation of each call's input."""
    given: dict[str, list[tuple[float, float]]] = {}
    model = probe.independent()
    stateful = {
        name
        for name, module in model.named_modules()
        if module.training and any(b.is_floating_point() for b in module.buffers(recurse=False))
    }

    def note(name: str, _: nn.Module, arguments: tuple[Any, ...], __: Any) -> None:
        values = first_tensor(arguments)
        if name in stateful and values is not None and values.is_floating_point():
            moments = (float(values.mean()), float(values.std(correction=0)))
            given.setdefault(name, []).append(moments)

    with torch.no_grad(), watching(model, note):
        probe.predict(images, model=model)
    buffers = {
        (name, key): buffer
        for name in given
        for key, buffer in model.get_submodule(name).named_buffers(recurse=False)
        if buffer.is_floating_point()
    }
    return buffers, given


def _consequence(probe: ModelProbe, name: str) -> float:
    """By how much the layer's mode alone changes the output for one batch; of its deviation."""
    model = probe.independent()
    layer = model.get_submodule(name)
    tracked = getattr(layer, "num_batches_tracked", None)
    passes = 20
    if hasattr(layer, "momentum") and isinstance(tracked, Tensor):
        tracked.zero_()
        passes = 1

    def call() -> None:
        if passes == 1:
            layer.momentum = None  # type: ignore[assignment]  # All calls count alike.
        probe.predict(probe.small, model=model)

    for _ in range(passes):
        settle(model, call)
    model.eval()
    with torch.no_grad():
        alone = probe.predict(probe.small, model=model)
        layer.train()
        together = probe.predict(probe.small, model=model)
    deviation = float(together.std(correction=0))
    return float((alone - together).square().mean().sqrt()) / deviation if deviation > 0 else 0.0


@rule("TM506", "samples-influence-each-other", "error")
def samples_influence_each_other(probe: ModelProbe) -> Iterator[Finding]:
    """In evaluation mode, the prediction for an image depends on the other images of its batch.

    Why it matters:
        Scores change with the batch size and the order of the files, and a single image, as in
        production, gets another mask than it got in the test. The usual causes are batch norms that
        keep no running statistics, or stay in training mode, and divisions by the maximum of the
        whole batch.

    How it decides:
        Two batches of two images in evaluation mode that differ in the second image only. The first
        image's output must be the same to 0.01 % of its range, with the second replaced by noise
        and by a constant, and so with the two exchanged. The first layer whose output for the
        first image differs although its input did not is named.

    False alarms:
        A network that is meant to compare the images of a batch.

    How to mend:
        `nn.BatchNorm2d(..., track_running_stats=True)`, no override of `train()`, and maxima and
        means over the axes of one image, `x.amax((1, 2, 3), keepdim=True)`.
    """
    moved, scale, batches = _largest_influence(probe)
    if not moved > 1e-4 * scale or scale == 0:
        return
    layer = _first_to_mix(probe, *batches)
    yield samples_influence_each_other.finding(
        f"In evaluation mode, another second image in the batch changes the output for the first "
        f"by {moved / scale:.2g} times its range; what mixes them first is {layer}.",
        remedy="Keep running statistics in normalisation layers (track_running_stats=True), let "
        "eval() reach them, and reduce over the axes of one sample only.",
        where="" if " " in layer else layer,
        evidence={"change": moved, "range": scale, "layer": layer},
    )


def _largest_influence(probe: ModelProbe) -> tuple[float, float, tuple[Tensor, Tensor]]:
    """How much the first output moves, its range, and the two batches that show it.

    Each sample is once the first: a maximum over the batch may be that of either.
    """
    worst: tuple[float, float, tuple[Tensor, Tensor]] | None = None
    for first, second in ((probe.small[:1], probe.small[1:2]), (probe.small[1:2], probe.small[:1])):
        batch = torch.cat([first, second])
        with torch.no_grad():
            expected = probe.predict(batch)[:1]
        span = float(expected.max() - expected.min())
        scale = span if span > 0 else float(expected.abs().max())
        for other in (probe.random_like(second), _middle(probe, second)):
            changed = torch.cat([first, other])
            with torch.no_grad():
                moved = float((probe.predict(changed)[:1] - expected).abs().max())
            if worst is None or moved * worst[1] > worst[0] * scale:
                worst = (moved, scale, (batch, changed))
    assert worst is not None
    return worst


def _middle(probe: ModelProbe, images: Tensor) -> Tensor:
    return torch.full_like(images, (probe.low + probe.high) / 2)


def _first_to_mix(probe: ModelProbe, batch: Tensor, changed: Tensor) -> str:
    """The first layer by whose call the first sample differs, or what stands before it."""
    seen: list[tuple[str, Tensor | None]] = []

    def before(name: str, _: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append((f"the code before {name}", _of_first(given)))

    def after(name: str, _: nn.Module, __: tuple[Any, ...], result: Any) -> None:
        seen.append((name, _of_first(result)))

    with torch.no_grad(), watching(probe.model, after, before=before):
        probe.predict(batch)
        count = len(seen)
        probe.predict(changed)
    for (name, one), (_, two) in zip(seen[:count], seen[count:], strict=False):
        if one is None or two is None or one.shape != two.shape:
            continue
        if (one.double() - two.double()).abs().max() > 1e-5 * one.double().abs().max():
            return name
    return "the code after the last layer"


def _of_first(values: Any) -> Tensor | None:
    found = first_tensor(values)
    return None if found is None else found[:1].clone()


@rule("TM507", "single-value-normalisation", "error")
def single_value_normalisation(probe: ModelProbe) -> Iterator[Finding]:
    """A normalisation layer gets one value to normalise, and puts out a constant.

    Why it matters:
        The mean of one value is that value, so that nothing remains of it: whatever comes before
        has no influence. It happens at the deepest level when images are small, and in global
        pooling branches with a batch of one. PyTorch refuses some of these cases, in training
        only; others go through.

    How it decides:
        Layers that were given one value for each sample and channel are called again in training
        mode, alone, with the batch's values, their negative, and noise of up to thirty times their
        size. A layer whose output has the shape of its input, and is the same for all whatever its
        weights, or that PyTorch refuses for this reason, is reported. Where PyTorch refuses it in
        evaluation mode too, nothing else can be asked of the model.

    False alarms:
        The example batch is smaller than those of training: give one of the size that is trained.

    How to mend:
        Larger images or fewer levels; a batch of two or more and `drop_last=True`; group norm with
        several channels a group.
    """
    for name, values in probe.calls.single.items():
        layer = copy.deepcopy(probe.model.get_submodule(name))
        layer.training = probe.modes[probe.model.get_submodule(name)]
        refused = _is_constant(layer, values)
        if refused is None:
            continue
        height, width = probe.size
        consequence = (
            "PyTorch refuses it in training mode"
            if refused
            else "its output does not depend on its input"
        )
        yield single_value_normalisation.finding(
            f"{name} gets one value to normalise, its input has the shape {tuple(values.shape)} "
            f"for a batch of {len(probe.images)} images of {height}x{width}: {consequence}.",
            remedy="Use larger images, fewer levels or a larger batch (drop_last=True), or a group "
            "norm with several channels a group.",
            where=name,
            evidence={"input": list(values.shape), "batch": list(probe.images.shape)},
        )


def refused_normalisation(probe: ModelProbe, refusal: SingleValue) -> Finding:
    """TM507 of a model that PyTorch refuses to call, in evaluation mode too."""
    height, width = probe.size
    return single_value_normalisation.finding(
        f"{refusal.layer} gets one value to normalise, its input has the shape {refusal.shape} for "
        f"images of {height}x{width}: PyTorch refuses it, in evaluation mode too.",
        remedy="Use larger images or fewer levels, or leave out this normalisation.",
        where=refusal.layer,
        evidence={"input": list(refusal.shape), "batch": list(probe.images.shape)},
    )


def _is_constant(layer: nn.Module, values: Tensor) -> bool | None:
    """False: the layer puts out the same for all inputs; True: it refuses to; None: neither."""
    generator = torch.Generator().manual_seed(0)
    scale = float(values.double().std(correction=0)) or 1.0
    # Large, too: a hard sigmoid hardly moves for small values, a normalisation not for any.
    noise = torch.randn(values.shape, generator=generator).to(values) * max(scale, 1.0)
    outputs: list[Tensor] = []
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
        for given in (values, -values, noise, 30 * noise):
            seed(0)
            try:
                outputs.append(layer(given.clone()))  # It may write into what it is given.
            except Exception as error:  # A layer that is not called with a tensor alone.
                return True if is_single_value(error) else None
            if not isinstance(outputs[-1], Tensor) or outputs[-1].shape != values.shape:
                return None
    size = float(outputs[0].abs().max())
    moved = max(float((output - outputs[0]).abs().max()) for output in outputs[1:])
    return False if math.isfinite(moved) and moved <= 1e-2 * size else None


RULES: tuple[Rule, ...] = (
    shared_state,
    samples_influence_each_other,
    single_value_normalisation,
)
