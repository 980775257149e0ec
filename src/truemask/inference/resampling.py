"""Resizing and pooling as products of matrices, which exporters can follow for every size.

Exporters trace PyTorch's own functions by the size that they are shown, or as an operator whose
coordinates other programs round otherwise: a pixel of 8 bits was then off by up to 0.006.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def resized_antialiased(
    images: Float[Tensor, "N C H W"], size: tuple[int, int]
) -> Float[Tensor, "N C h w"]:
    """`interpolate(images, size, mode="bilinear", antialias=True)`."""
    height, width = images.shape[-2:]
    rows, columns = _antialiased(size[0], height), _antialiased(size[1], width)
    return rows @ (images @ columns.T)


def resized(images: Float[Tensor, "N C h w"], size: tuple[int, int]) -> Float[Tensor, "N C H W"]:
    """`interpolate(images, size, mode="bilinear")`."""
    for axis in (2, 3):
        images = _interpolated(images, axis, size[axis - 2])
    return images


def binned(
    images: Float[Tensor, "N C H W"], size: tuple[int, int]
) -> Float[Tensor, "N C rows columns"]:
    """`adaptive_avg_pool2d(images, size)`."""
    height, width = images.shape[-2:]
    return _bins(size[0], height) @ images @ _bins(size[1], width).T


def _scale(length: int, wanted: int) -> Float[Tensor, " 1"]:
    """Places of the old grid for one of the new, rounded as PyTorch does."""
    return torch.full((1,), length, dtype=torch.float32) / wanted


def _antialiased(wanted: int, length: int) -> Float[Tensor, "wanted length"]:
    """What each old place counts for at each new one: a triangle, wider where it gets smaller."""
    scale = _scale(length, wanted)
    centre = scale * (torch.arange(wanted) + 0.5)[:, None]
    apart = (torch.arange(length) - centre + 0.5) / scale.clamp(min=1)
    weight = (1 - apart.abs()).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)


def _interpolated(images: Tensor, axis: int, wanted: int) -> Tensor:
    length = images.shape[axis]
    place = (_scale(length, wanted) * (torch.arange(wanted) + 0.5) - 0.5).clamp(min=0)
    before = place.long().clamp(max=length - 1)
    share = (place - before).clamp(max=1).reshape([-1 if each == axis else 1 for each in range(4)])
    first = images.index_select(axis, before)
    second = images.index_select(axis, (before + 1).clamp(max=length - 1))
    return first * (1 - share) + second * share


def _bins(bins: int, length: int) -> Float[Tensor, "bins length"]:
    """What each place counts for in the mean of each bin; neighbouring bins may share a place."""
    each, place = torch.arange(bins)[:, None], torch.arange(length)
    first, end = each * length // bins, ((each + 1) * length + bins - 1) // bins
    return ((place >= first) & (place < end)).float() / (end - first)
