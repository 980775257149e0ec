"""Which layers a model calls, in which order, how often, and what they are given."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from truemask.checks.model_outputs import tensors_in

Watch = Callable[[str, nn.Module, tuple[Any, ...], Any], None]
"""Called with a layer's name, the layer, its arguments and its result."""

WatchBefore = Callable[[str, nn.Module, tuple[Any, ...]], None]
"""Called with a layer's name, the layer and its arguments."""


@dataclass
class Calls:
    """The calls of layers in one forward pass.

    Attributes:
        order: names of the layers in the order of their calls, each as often as it is called.
        parametric: names of those that have parameters of their own, by their last call.
        single: name -> what layers were given that has one value for each sample and channel.
        inside: the layers that are being called, from the outermost, with the first tensor that
            each was given; what is left after an exception tells where it came from.
    """

    order: list[str] = field(default_factory=list)
    parametric: list[str] = field(default_factory=list)
    single: dict[str, Tensor] = field(default_factory=dict)
    inside: list[tuple[str, Tensor | None]] = field(default_factory=list)

    def enter(self, name: str, _: nn.Module, given: tuple[Any, ...]) -> None:
        """Note that a call begins; a `WatchBefore`."""
        self.inside.append((name, first_tensor(given)))

    def watch(self, name: str, layer: nn.Module, given: tuple[Any, ...], _: Any) -> None:
        """Note one call; a `Watch`."""
        self.order.append(name)
        if self.inside:
            self.inside.pop()
        if next(layer.parameters(recurse=False), None) is not None:
            if name in self.parametric:
                self.parametric.remove(name)
            self.parametric.append(name)
        values = first_tensor(given)
        if values is not None and values.ndim >= 2 and values[0, :1].numel() == 1:
            self.single.setdefault(name, values.detach().clone())


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that compute by themselves: those without children, or with own tensors."""
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own or next(module.children(), None) is None:
            yield name, module


@contextmanager
def watching(
    model: nn.Module,
    watch: Watch,
    *,
    before: WatchBefore | None = None,
) -> Iterator[None]:
    """Calls `watch` after each call of a layer, and `before` before it."""
    handles = []
    for name, module in layers(model):
        handles.append(module.register_forward_hook(_after(name, watch), with_kwargs=True))
        if before is not None:
            handles.append(
                module.register_forward_pre_hook(_before(name, before), with_kwargs=True)
            )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _after(name: str, watch: Watch) -> Callable[..., None]:
    def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        watch(name, module, (*given, *named.values()), out)

    return hook


def _before(name: str, watch: WatchBefore) -> Callable[..., None]:
    def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        watch(name, module, (*given, *named.values()))

    return hook


def first_tensor(values: Any) -> Tensor | None:
    """The first tensor in arguments or in a result."""
    return next((output.tensor for output in tensors_in(values)), None)
