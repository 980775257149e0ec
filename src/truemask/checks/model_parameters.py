"""Which parameters are trained: TM505 and TM508."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.model_gradients import gradients, hidden_tensors, leaves
from truemask.checks.model_probe import ModelProbe


@rule("TM505", "untrained-parameters", "error")
def untrained_parameters(probe: ModelProbe, optimizers: Sequence[Any] = ()) -> Iterator[Finding]:
    """Parameters that get no gradient, or that the optimiser does not hold.

    Why it matters:
        A `detach()` too many, a layer that is built and never called, an optimiser that was made
        before the last layer was replaced, or for another model: all train without an error, and
        the part that stays random only makes the scores lower. In one of the five published
        projects two trainings shared one optimiser.

    How it decides:
        A random projection of all outputs is differentiated, in training and in evaluation mode,
        with statistics settled on the batch. A trainable parameter of a layer that is called and
        whose gradient is missing or exactly 0 in both, also after noise on all parameters (some
        layers begin with zeros on purpose), is an error. Layers that are never called are a
        warning where they belong to no part of the model that is used otherwise, else a note:
        libraries leave such behind where they do not use the last stage of an encoder. Every
        trainable parameter must be among those of the optimisers, by identity: if not, it is an
        error; held twice is an error too. Tensors that the gradient of the output reaches but that
        are no parameters of the model are an error too: layers in a plain list or dict. Parameters
        that are frozen (`requires_grad=False`) are a note.

    False alarms:
        Parts that are trained by a second optimiser: give all, as a list.

    How to mend:
        Call the layer, or delete it; remove `detach()`, `.data` and `torch.no_grad()` from
        forward; build the optimiser from `model.parameters()` after the model has its last form
        and place; keep layers in `nn.ModuleList` and `nn.ModuleDict`.
    """
    yield from _without_gradient(probe)
    if optimizers:
        yield from _not_held(probe, optimizers)
    yield from _unregistered(probe, optimizers)


def _without_gradient(probe: ModelProbe) -> Iterator[Finding]:
    parameters = dict(probe.model.named_parameters())
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    if not trained:
        if parameters:
            yield untrained_parameters.finding(
                f"All {len(parameters)} parameters are frozen (requires_grad=False): nothing can "
                "be trained.",
                remedy="Call requires_grad_(True) on what is to be trained.",
                level="note",
                evidence={"frozen": len(parameters)},
            )
        return
    idle = idle_parameters(probe)
    called = {*probe.calls.order, *probe.called_in_training}
    dead = [name for name in idle if _layer_of(name) in called]
    unused = [name for name in idle if _layer_of(name) not in called]
    if dead:
        share = _count(parameters, dead) / _count(parameters, trained)
        everything = len(dead) == len(trained)
        yield untrained_parameters.finding(
            f"{'All ' * everything}{len(dead)} parameters ({_some(dead)}) are used but get no "
            f"gradient from the output, {share:.1%} of what should be trained.",
            remedy="Remove what cuts them off: detach(), .data, torch.no_grad(), argmax or a "
            "rounding between them and the output; freeze them with requires_grad_(False) if it "
            "is meant.",
            where=_common(dead),
            evidence={"parameters": dead[:50], "count": len(dead), "share": round(share, 4)},
        )
    if unused:
        share = _count(parameters, unused) / _count(parameters, trained)
        yield untrained_parameters.finding(
            f"{len(unused)} parameters ({_some(unused)}) belong to layers that forward never "
            f"calls, {share:.1%} of what should be trained.",
            remedy="Call these layers, or delete them.",
            where=_common(unused),
            level="warning" if _of_own_children(probe, unused) else "note",
            evidence={"parameters": unused[:50], "count": len(unused), "share": round(share, 4)},
        )
    frozen = [name for name in parameters if name not in trained]
    if frozen:
        share = _count(parameters, frozen) / _count(parameters, parameters)
        yield untrained_parameters.finding(
            f"{len(frozen)} parameters ({_some(frozen)}) are frozen (requires_grad=False), "
            f"{share:.0%} of the model.",
            remedy="Call requires_grad_(True) on them if they are to be trained.",
            where=_common(frozen),
            level="note",
            evidence={"count": len(frozen), "share": round(share, 4)},
        )


def _unregistered(probe: ModelProbe, optimizers: Sequence[Any]) -> Iterator[Finding]:
    model = probe.independent()
    reached = leaves(probe.predict(probe.small, model=model))
    registered = {id(parameter) for parameter in model.parameters()}
    names = {id(tensor): name for name, tensor in hidden_tensors(model).items()}
    own, held = hidden_tensors(probe.original), _held(optimizers)
    found: dict[str, Tensor] = {}
    for tensor in reversed(reached):
        name = names.get(id(tensor), "")
        if id(tensor) not in registered and id(own.get(name, tensor)) not in held:
            found[name or f"a tensor of the shape {tuple(tensor.shape)}"] = tensor
    if found:
        yield untrained_parameters.finding(
            f"{len(found)} tensors ({_some(list(found))}) are used and want a gradient, but are no "
            "parameters of the model: model.parameters() does not list them, so that no optimiser "
            "trains them, and neither .to() nor a checkpoint takes them along.",
            remedy="Keep layers in nn.ModuleList or nn.ModuleDict and tensors as nn.Parameter; set "
            "requires_grad_(False) where they are not to be trained.",
            where=_common(list(found)),
            evidence={
                "tensors": list(found)[:50],
                "count": len(found),
                "values": sum(tensor.numel() for tensor in found.values()),
            },
        )


def _held(optimizers: Sequence[Any]) -> Counter[int]:
    """How often the optimisers hold each parameter, by its identity."""
    return Counter(
        id(parameter)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    )


def _not_held(probe: ModelProbe, optimizers: Sequence[Any]) -> Iterator[Finding]:
    held = _held(optimizers)
    own = dict(probe.original.named_parameters())
    trained = {name: parameter for name, parameter in own.items() if parameter.requires_grad}
    missing = [name for name, parameter in trained.items() if id(parameter) not in held]
    if missing:
        none = len(missing) == len(trained)
        share = _count(own, missing) / _count(own, trained)
        yield untrained_parameters.finding(
            f"The optimiser holds none of the model's {len(trained)} trainable parameters: it was "
            "made for another model, or for this one before its parameters were replaced."
            if none
            else f"The optimiser does not hold {len(missing)} of {len(trained)} trainable "
            f"parameters ({_some(missing)}), {share:.1%} of what should be trained.",
            remedy="Build the optimiser from model.parameters() after the model has its final "
            "layers, or add_param_group what was added later.",
            where=_common(missing),
            evidence={"parameters": missing[:50], "count": len(missing), "share": round(share, 4)},
        )
    twice = [name for name, parameter in own.items() if held[id(parameter)] > 1]
    if twice:
        yield untrained_parameters.finding(
            f"{len(twice)} parameters ({_some(twice)}) are held twice by the optimiser, and take "
            "two steps for every one.",
            remedy="Give each parameter to one group of one optimiser.",
            where=_common(twice),
            evidence={"parameters": twice[:50], "count": len(twice)},
        )


@rule("TM508", "bias-before-normalisation", "note")
def bias_before_normalisation(probe: ModelProbe) -> Iterator[Finding]:
    """A bias in front of a normalisation layer, which takes it off again.

    Why it matters:
        Such a bias never learns: the normalisation subtracts the mean and with it the bias. It
        costs memory and time, wanders by weight decay and rounding alone, and is counted in the
        number of parameters. No figure is wrong because of it.

    How it decides:
        Parameters of one axis beside a weight of several, whose gradient in training mode is below
        a thousandth of that in evaluation mode, or a millionth of the weight's, are all shifted by
        random amounts: if the output in training mode stays the same to 0.1 %, the normalisation
        takes them off.

    False alarms:
        None known.

    How to mend:
        `bias=False` in the convolution before a batch or instance norm.
    """
    names = cancelled_biases(probe)
    if not names:
        return
    parameters = dict(probe.model.named_parameters())
    one = len(names) == 1
    yield bias_before_normalisation.finding(
        f"{len(names)} {'bias' if one else 'biases'} ({_some(names)}) "
        f"{'stands' if one else 'stand'} before a normalisation that takes "
        f"{'it' if one else 'them'} off: {_count(parameters, names)} values that never learn.",
        remedy="Build these layers with bias=False.",
        where=_common(names),
        evidence={"parameters": names[:50], "count": len(names)},
    )


def idle_parameters(probe: ModelProbe) -> list[str]:
    """Trainable parameters without a gradient in both modes, also after noise on all."""
    cancelled = set(cancelled_biases(probe))
    idle = [
        name
        for name, gradient in probe.evaluation_gradients.items()
        if _is_zero(gradient)
        and _is_zero(probe.training_gradients.get(name))
        and name not in cancelled
    ]
    if not idle:
        return []
    shaken = probe.shaken
    after = gradients(shaken, probe.small)
    return [name for name in idle if _is_zero(after.get(name))]


def cancelled_biases(probe: ModelProbe) -> list[str]:
    """Parameters of one axis that a normalisation takes off in training mode."""
    training, evaluation = probe.training_gradients, probe.evaluation_gradients
    suspects = [
        name
        for name, gradient in training.items()
        if gradient is not None
        and gradient.ndim == 1
        and (weight := training.get(f"{_layer_of(name)}.weight")) is not None
        and weight.ndim > 1
        and _vanishes(gradient, evaluation.get(name), weight)
    ]
    return suspects if suspects and _without_effect(probe, suspects) else []


def _vanishes(gradient: Tensor, evaluation: Tensor | None, weight: Tensor) -> bool:
    size = float(gradient.abs().max())
    if evaluation is not None and size < 1e-3 * float(evaluation.abs().max()):
        return True
    return size < 1e-6 * float(weight.abs().max())


def _without_effect(probe: ModelProbe, names: Sequence[str]) -> bool:
    model = probe.independent()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = probe.predict(probe.small, model=model)
        for name in names:
            bias = model.get_parameter(name)
            bias.add_(0.5 * torch.randn(bias.shape, generator=generator).to(bias))
        after = probe.predict(probe.small, model=model)
    return float((after - before).abs().max()) <= 1e-3 * float(before.std(correction=0))


def _of_own_children(probe: ModelProbe, unused: Sequence[str]) -> list[str]:
    """Those of the parameters that belong to a child of the model that is not used at all.

    A module around a single other one counts for nothing.
    """
    prefix, module = "", probe.model
    while True:
        children = {
            name: c for name, c in module.named_children() if any(True for _ in c.parameters())
        }
        own = any(True for _ in module.parameters(recurse=False))
        if len(children) != 1 or own:
            break
        name, module = next(iter(children.items()))
        prefix += f"{name}."
    idle = set(unused)
    return [
        f"{prefix}{name}.{parameter}"
        for name, child in children.items()
        if all(f"{prefix}{name}.{parameter}" in idle for parameter, _ in child.named_parameters())
        for parameter, _ in child.named_parameters()
    ]


def _is_zero(gradient: Tensor | None) -> bool:
    return gradient is None or not bool(gradient.any())


def _layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _count(parameters: dict[str, nn.Parameter], names: Iterable[str]) -> int:
    return sum(parameters[name].numel() for name in names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, ... {names[-1]}"


def _common(names: Sequence[str]) -> str:
    """The innermost module that holds them all; "" if it is the model."""
    paths = [name.split(".")[:-1] for name in names]
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


RULES: tuple[Rule, ...] = (untrained_parameters, bias_before_normalisation)
