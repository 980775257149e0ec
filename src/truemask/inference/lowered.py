"""A model that computes in bfloat16: on processors that do so natively, two to three times as fast.

What autocast does in each call is done once here: weights are rounded, and batch norms become part
of the convolutions before them. Masks differ from the exact ones where two classes are nearly as
likely, which docs/performance.md measures; so nothing does this unasked.
"""

import copy
from dataclasses import replace
from itertools import pairwise
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.models.segmenter import Network, Segmenter
from truemask.models.unet import UNet

Precision = Literal["fp32", "bf16"]

_ROUNDED = (nn.Conv2d, nn.ConvTranspose2d)
_KEPT = (nn.BatchNorm2d,)
"""Computes in float32 on features in bfloat16."""


def with_precision(bundle: Bundle, precision: Precision) -> Bundle:
    """The bundle with a model that computes in that precision.

    Args:
        bundle: the model; it stays as it is.
        precision: "fp32" gives the bundle itself, "bf16" one with a copy of the model.

    Raises:
        UsageError: there is no such precision.
    """
    if precision not in get_args(Precision):
        raise UsageError(
            f"precision is {precision!r}; allowed are {', '.join(get_args(Precision))}"
        )
    return bundle if precision == "fp32" else replace(bundle, model=lower(bundle.model))


def lower(model: Segmenter) -> Segmenter:
    """A copy in evaluation mode whose network computes in bfloat16.

    Scaling, padding and what is made of the logits stay in float32. Networks of convolutions and
    batch norms alone get weights in bfloat16; others compute under autocast, which keeps what is
    sensitive, such as layer norms, in float32.

    Args:
        model: in float32, on any device; it stays as it is.
    """
    network = copy.deepcopy(model.network).eval()
    owners = [module for module in network.modules() if module._parameters or module._buffers]
    simple = all(isinstance(module, _ROUNDED + _KEPT) for module in owners)
    if simple:
        _fold(network)
        for module in network.modules():
            if isinstance(module, _ROUNDED):
                module.to(torch.bfloat16)
    network = network.to(memory_format=torch.channels_last)
    lowered = Segmenter(
        network=_Bfloat16(network, autocast=not simple), images=model.images, size=model.size
    )
    return lowered.to(model.mean.device).eval()


class _Bfloat16(nn.Module):
    def __init__(self, network: nn.Module, *, autocast: bool) -> None:
        super().__init__()
        self.network = network
        self.autocast = autocast

    def forward(self, images: Float[Tensor, "B C H W"]) -> Tensor:
        if not self.autocast:
            return cast(Tensor, self.network(images.bfloat16()))
        # Inside, since prediction turns the caller's autocast off.
        with torch.autocast(images.device.type, torch.bfloat16):
            return cast(Tensor, self.network(images))

    @property
    def reach(self) -> int:
        return cast(UNet, self.network).reach  # where it says so; else this says nothing either

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return cast(Network, self.network).input_size(height, width)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return cast(Network, self.network).output_size(height, width)


def _fold(network: nn.Module) -> None:
    """Make each batch norm that follows a convolution part of it."""
    for parent in network.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        for (name, convolution), (after, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent.add_module(name, fuse_conv_bn_eval(convolution, norm))
                parent.add_module(after, nn.Identity())
