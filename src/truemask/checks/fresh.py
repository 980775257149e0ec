"""Whether a training starts anew: TM606."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.weights import Weights, same

_NUDGE = 1.0


def check_fresh(
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[[nn.Module], Optimizer] | None = None,
    *,
    earlier: Weights | None = None,
) -> list[Finding]:
    """Look whether every training gets a model and an optimiser of its own.

    Args:
        make_model: what a training calls to get its model. It is called twice.
        make_optimizer: what it calls with the model to get its optimiser.
        earlier: weights at the end of an earlier training, to hold the new ones against.
    """
    with torch.random.fork_rng(devices=[]):
        return carried_state(make_model, make_optimizer, earlier)


@dataclass(frozen=True)
class _Made:
    model: nn.Module
    optimizer: Optimizer | None


@rule("TM606", "carried-state", "error")
def carried_state(
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[[nn.Module], Optimizer] | None,
    earlier: Weights | None,
) -> Iterator[Finding]:
    """A training starts with weights or optimiser state that an earlier one left.

    Why it matters:
        In the edges project one model and one optimiser served both trainings: the "unweighted" run
        went on from the weighted one's weights and moments, and the two were compared.

    How it decides:
        The function that makes the model is called, every weight of what it gives is moved by 1,
        as a training would move it, and the function is called again: the second model must be
        another object, share no memory with the first, and must not have the moved weights. The
        weights are put back. The optimiser likewise: another object, with no state, over the
        parameters of its own model. With `earlier`, the new weights must not equal those, number
        by number. In a guard: an optimiser that holds state before its first step.

    False alarms:
        A factory that is meant to go on with a training, or that loads trained weights, is not
        reported unless the weights are those given as `earlier`.

    How to mend:
        Make the model and the optimiser inside the function that trains, once for each training,
        and never at the top of a module or in a notebook's earlier cell.
    """
    first = make_model()
    with _moved(first):
        made = [_Made(first, make_optimizer(first) if make_optimizer else None)]
        second = make_model()
        made.append(_Made(second, make_optimizer(second) if make_optimizer else None))
        found = list(_of_models(first, second))
    yield from found
    if not found and all(item.optimizer is not None for item in made):
        yield from _of_optimizers(*made)
    if earlier is not None and same(second, earlier)[0]:
        yield carried_state.finding(
            "A new model has the very weights that an earlier training ended with.",
            where="make_model",
            evidence={"equal_to_earlier": True},
            remedy="Draw new weights for each training.",
        )


def _of_models(first: nn.Module, second: nn.Module) -> Iterator[Finding]:
    shared = _shared(first, second)
    if first is second:
        said = "Two calls give the same model, so that the second training goes on from the first."
    elif shared:
        said = f"Two models share the memory of {len(shared)} weights, {shared[0]} among them."
    elif _equal(first, second):
        said = "A second model starts with the weights that the first was moved to."
    else:
        return
    yield carried_state.finding(
        said,
        where="make_model",
        evidence={"same_object": first is second, "shared_tensors": shared[:5]},
        remedy="Make the model anew inside the function, at every call.",
    )


def _of_optimizers(first: _Made, second: _Made) -> Iterator[Finding]:
    optimizer = second.optimizer
    assert optimizer is not None
    strange = foreign_parameters(optimizer, second.model)
    if optimizer is first.optimizer:
        said = "Two calls give the same optimiser, with the moments of the first training."
    elif optimizer.state:
        said = f"A new optimiser already holds the state of {len(optimizer.state)} parameters."
    elif strange:
        said = f"The optimiser of the second model holds {strange} parameters of another one."
    else:
        return
    yield carried_state.finding(
        said,
        where="make_optimizer",
        evidence={"same_object": optimizer is first.optimizer, "state": len(optimizer.state),
                  "foreign_parameters": strange},
        remedy="Make the optimiser from the new model's parameters, at every call.",
    )  # fmt: skip


def started_with_state(optimizer: Optimizer) -> list[Finding]:
    """TM606 for an optimiser that is about to take its first step."""
    moments = [state for state in optimizer.state.values() if state]
    if not moments:
        return []
    return [
        carried_state.finding(
            f"Before the first step the optimiser holds the state of {len(moments)} parameters.",
            where="optimizer",
            evidence={"parameters_with_state": len(moments)},
            remedy="Make a new optimiser for this training, or say that it is resumed.",
        )
    ]


def foreign_parameters(optimizer: Optimizer, model: nn.Module) -> int:
    """How many of an optimiser's parameters are none of the model's."""
    own = {id(parameter) for parameter in model.parameters()}
    groups: Iterable[dict[str, Any]] = optimizer.param_groups
    return sum(id(p) not in own for group in groups for p in group["params"])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: t.detach() for name, t in named.items() if t.is_floating_point() and t.numel()}


def _shared(first: nn.Module, second: nn.Module) -> list[str]:
    """Names of the second model's weights that lie in the first one's memory."""
    places = {tensor.data_ptr() for tensor in _tensors(first).values()}
    return [name for name, tensor in _tensors(second).items() if tensor.data_ptr() in places]


def _equal(first: nn.Module, second: nn.Module) -> bool:
    """Whether all weights agree, of which the first model's have been moved."""
    ours, theirs = _tensors(first), _tensors(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


class _moved:
    """All weights of a model moved by 1, and put back afterwards."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = list(_tensors(model).values())

    def __enter__(self) -> None:
        self.before = [tensor.clone() for tensor in self.tensors]
        for tensor in self.tensors:
            tensor.add_(_NUDGE)

    def __exit__(self, *error: object) -> None:
        for tensor, before in zip(self.tensors, self.before, strict=True):
            tensor.copy_(before)


RULES: tuple[Rule, ...] = (carried_state,)
