"""Parameters for an optimiser, as their memory lies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_ORDER = (0, 2, 3, 1)
_BACK = (0, 3, 1, 2)


class MemoryOrder:
    """Gives an optimiser views of weights in channels last, with their channels as last dimension.

    PyTorch's fused optimisers copy each gradient on the CPU whose dimensions are not in the order
    of the memory (and do not use the copy), which takes a twentieth of a U-Net's step. The weights
    that come out are the same to the last bit.

    Args:
        groups: parameter groups.
        enabled: whether there are views at all; a GPU's optimisers need none.

    Attributes:
        groups: the same groups with views in place of such weights.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        self._numbers: set[int] = set()  # of the parameters with a view, as the optimiser counts
        self._count = 0
        self.groups = [
            {**group, "params": [self._view(parameter) for parameter in group["params"]]}
            for group in groups
        ]

    def lend_gradients(self) -> None:
        """Give the views the gradients of their weights; call it after the backward pass."""
        for parameter, view in self._pairs:
            view.grad = None if parameter.grad is None else parameter.grad.permute(_ORDER)

    def zero_grad(self) -> None:
        """Forget the gradients of the weights; the optimiser forgets those of the views."""
        for parameter, _ in self._pairs:
            parameter.grad = None

    def plain(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """An optimiser's `state_dict` as it were without views, to be saved."""
        return self._permuted(state, lambda tensor: tensor.permute(_BACK))

    def viewed(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `plain`."""
        return self._permuted(state, lambda tensor: tensor.permute(_ORDER).contiguous())

    def _permuted(
        self, state: Mapping[str, Any], permute: Callable[[Tensor], Tensor]
    ) -> dict[str, Any]:
        return {
            **state,
            "state": {
                number: {key: permute(v) if _is_image(v) else v for key, v in values.items()}
                if number in self._numbers
                else values
                for number, values in state["state"].items()
            },
        }

    def _view(self, parameter: nn.Parameter) -> nn.Parameter:
        self._count += 1
        if not self.enabled or not _is_channels_last(parameter):
            return parameter
        view = nn.Parameter(parameter.detach().permute(_ORDER))
        self._pairs.append((parameter, view))
        self._numbers.add(self._count - 1)
        return view


def _is_image(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether its memory is in that order, and not in the usual one as well."""
    return (
        tensor.ndim == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )
