"""How much memory a network's features take, found without computing them."""

import weakref
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from truemask.models.segmenter import Network


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that a network takes for one image.

    Attributes:
        features: at most at one time, the image among them; without the weights and what
            convolutions take for themselves, which is little with the channels last in memory.
        logits: of what it puts out.
    """

    features: int
    logits: int


def footprint(network: nn.Module, channels: int, height: int, width: int) -> Footprint | None:
    """What a network takes for one image in float32.

    It runs on PyTorch's device `meta`, where tensors have sizes but no values: that takes
    milliseconds and no memory.

    Args:
        network: in evaluation mode, on any device.
        channels: of the image.
        height: of the image; what the network takes beyond it is counted.
        width: likewise.

    Returns:
        The bytes, or `None` for a network that does not run without values.
    """
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    size = cast(Network, network).input_size(height, width)
    live = _Live()
    try:
        with torch.inference_mode(), live:
            image = torch.empty(1, channels, *size, device="meta")
            logits = torch.func.functional_call(network, state, (image,))
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return Footprint(features=live.most, logits=logits.nbytes)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are made, until nobody holds them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.most = 0
        self._held: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return

        def end(_: Any) -> None:
            self.now -= size
            del self._held[key]

        self._held[key] = weakref.ref(storage, end)
        self.now += size
        self.most = max(self.most, self.now)
