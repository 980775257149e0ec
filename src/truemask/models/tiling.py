"""Logits of one image of any size: whole when it is small, else tile by tile.

Tiles are exact, not merely smooth. They begin at multiples of the network's stride, because a
tile that begins elsewhere sees other pooling windows; and of what they share, the outer three
eighths are thrown away on either side, because there a tile's padding shows. What is left is
blended. So a network that looks no further than that gives the logits of the whole image, and
none gives a seam.
"""

from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from truemask.errors import UsageError
from truemask.geometry import Box, round_up, tile_weights
from truemask.geometry import tile as cover
from truemask.models.segmenter import Network, Segmenter

LARGEST_SIDE = 2048
"""An image with at most the pixels of a square of this side goes through the model whole."""


@torch.inference_mode()
def image_logits(
    model: Segmenter,
    image: Shaped[Tensor, "C H W"],
    *,
    tile: int | None = None,
    overlap: int = 256,
) -> Float[Tensor, "L H W"]:
    """Logits of one image, as evaluation and prediction both see them.

    Args:
        model: in evaluation mode, on any device; tiles are moved there.
        image: of the dtype, channels and range that the model takes.
        tile: largest side of a tile in pixels. By default an image of up to 2048x2048 pixels is
            one tile, and a larger one is cut into tiles of at most 2048x2048. A model that brings
            every image to a size of its own takes none.
        overlap: pixels that neighbouring tiles share, at least. With the default, tiles change
            nothing for networks that see up to 96 pixels far, as the U-Net of five levels with
            two convolutions each.

    Returns:
        float32 logits on the image's device.

    Raises:
        UsageError: tile or overlap is too small to cover an image, or the model takes no tiles.
    """
    assert not model.training, "batch statistics of its own would make each tile a different model"
    height, width = image.shape[-2:]
    device = model.mean.device
    if model.size is not None and tile is not None:
        raise UsageError(
            f"this model brings every image to {model.size[0]} x {model.size[1]} pixels: leave "
            "tile out"
        )
    if tile is None and (model.size is not None or height * width <= LARGEST_SIDE**2):
        logits: Tensor = model(image[None].to(device))[0]
        return logits.to(image.device)

    stride = max(_strides(model))
    size = (LARGEST_SIDE if tile is None else tile) // stride * stride
    overlap = round_up(overlap, stride)
    if not 0 <= overlap < size:
        raise UsageError(
            f"tile ({size}) must be larger than overlap ({overlap}), and that not negative; "
            f"both count in multiples of the network's stride, {stride}"
        )
    margin = 3 * overlap // 8
    weights = torch.zeros(height, width, device=image.device)
    total: Tensor | None = None
    for box in _tiles(height, width, size=size, overlap=overlap, stride=stride):
        core = _core(box, height, width, margin=margin)
        inside = Box(core.top - box.top, core.left - box.left, core.height, core.width)
        logits = inside.crop(model(box.crop(image)[None].to(device))[0]).to(image.device)
        weight = tile_weights(core, height=height, width=width, overlap=overlap - 2 * margin)
        weight = weight.to(image.device)
        if total is None:
            total = torch.zeros(logits.shape[0], height, width, device=image.device)
        core.crop(total).addcmul_(logits, weight)
        core.crop(weights).add_(weight)
    assert total is not None
    return total.div_(weights)


def _strides(model: Segmenter) -> tuple[int, int]:
    """By how much the sizes grow that the network accepts, in height and in width."""
    network = cast(Network, model.network)
    first = network.input_size(1, 1)
    covered = network.output_size(*first)
    second = network.input_size(covered[0] + 1, covered[1] + 1)
    return second[0] - first[0], second[1] - first[1]


def _tiles(height: int, width: int, *, size: int, overlap: int, stride: int) -> list[Box]:
    rows = _spans(height, size=size, overlap=overlap, stride=stride)
    columns = _spans(width, size=size, overlap=overlap, stride=stride)
    return [Box(top, left, rows[top], columns[left]) for top in rows for left in columns]


def _spans(length: int, *, size: int, overlap: int, stride: int) -> dict[int, int]:
    """Where tiles begin along one axis, and how long each is.

    As few as `size` allows, and no longer than that number needs: 4000 pixels are covered by
    three tiles of 1504, where three of 2048 would cost a third more.
    """
    if length <= size:
        return {0: length}
    padded = round_up(length, stride)
    count = -(-(padded - overlap) // (size - overlap))
    needed = overlap + round_up(-(-(padded - overlap) // count), stride)
    boxes = cover(padded, 1, size=needed, overlap=overlap)
    # The last tile ends with the image, not with the padding: the model pads it as it would pad
    # the image.
    return {box.top: min(box.height, length - box.top) for box in boxes}


def _core(box: Box, height: int, width: int, *, margin: int) -> Box:
    """A tile without the margin at those sides that are not the image's own."""
    top = box.top + (margin if box.top > 0 else 0)
    left = box.left + (margin if box.left > 0 else 0)
    bottom, right = box.top + box.height, box.left + box.width
    bottom -= margin if bottom < height else 0
    right -= margin if right < width else 0
    return Box(top, left, bottom - top, right - left)
