"""Logits of one image of any size: whole when it is small, else tile by tile.

Tiles are exact, not merely smooth. They begin at multiples of the network's stride, because a
tile that begins elsewhere sees other pooling windows; they overlap by more than twice as far as the
network sees; and of what they share, seven sixteenths are thrown away on either side, because there
a tile's padding shows. What is left is blended. So the logits are those of the whole image; and of
a network that sees further than it says, or than tiles allow, none has a seam.

The logits come in blocks, each as soon as no later tile can change it. Besides one tile, only
what the tiles of the next row share with this one is kept: an image may be larger than the memory.
"""

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from truemask.errors import UsageError
from truemask.geometry import Box, round_up, tile_spans
from truemask.models.footprint import footprint
from truemask.models.segmenter import Network, Segmenter

LARGEST_SIDE = 2048
"""An image with at most the pixels of a square of this side goes through the model whole."""

HUGE_SIDE = 8192
"""With more pixels than a square of this side, an image is cut into smaller tiles."""

_HUGE_TILE = 1024
"""For memory, and as rows of such tiles are kept of what is written."""

_HUGE_BYTES = 768 << 20
"""What weights, features and logits of a tile of a huge image may take of the main memory."""

_LOGITS = 4
"""How often the logits of a tile are there: as they are, blended, cut, and as probabilities."""

_REACH = 112
"""How far networks see that do not say it, in pixels."""

_SHARE = 5 / 8
"""Of a tile's side, the overlap takes at most so much."""

Read = Callable[[Box], Shaped[Tensor, "C h w"]]
"""Gives the pixels of a box, of the dtype, channels and range that the model takes."""

Compute = Callable[[Shaped[Tensor, "B C H W"]], Float[Tensor, "B L H W"]]
"""Logits of whole images: a `Segmenter`, or what averages several of its answers."""


@torch.inference_mode()
def image_logits(
    model: Segmenter,
    image: Shaped[Tensor, "C H W"],
    *,
    tile: int | None = None,
    overlap: int | None = None,
) -> Float[Tensor, "L H W"]:
    """Logits of one image, as evaluation and prediction both see them.

    Args:
        model: in evaluation mode, on any device; tiles are moved there.
        image: of the dtype, channels and range that the model takes.
        tile: see `logits_by_blocks`.
        overlap: see `logits_by_blocks`.

    Returns:
        float32 logits on the image's device.

    Raises:
        UsageError: tile or overlap is too small to cover an image, or the model takes no tiles.
    """
    height, width = image.shape[-2:]
    total: Tensor | None = None
    for box, logits in logits_by_blocks(
        model, lambda box: box.crop(image), height, width, tile=tile, overlap=overlap
    ):
        if (box.height, box.width) == (height, width):
            return logits.to(image.device)
        if total is None:
            total = torch.empty(logits.shape[0], height, width, device=image.device)
        box.paste(total, logits)
    assert total is not None
    return total


def logits_by_blocks(
    model: Segmenter,
    read: Read,
    height: int,
    width: int,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    compute: Compute | None = None,
) -> Iterator[tuple[Box, Float[Tensor, "L h w"]]]:
    """Logits of one image, block by block.

    To be used in inference mode. What is kept from row to row is some `overlap / 8` rows of logits.

    Args:
        model: in evaluation mode, on any device; tiles are moved there.
        read: gives the pixels of a box.
        height: of the image.
        width: of the image.
        tile: largest side of a tile in pixels. By default an image of up to 2048x2048 pixels is
            one tile, and a larger one is cut into tiles of at most 2048x2048; from 8192x8192
            pixels on of less, as `default_tile` says. A model that brings every image to a size
            of its own takes none.
        overlap: pixels that neighbouring tiles share, at least. By default as many as make tiles
            change nothing, by what the network says of how far it sees (`reach`), but at most five
            eighths of a tile.
        compute: what gives the logits of a tile; by default the model.

    Yields:
        Boxes that together cover each pixel once, from left to right and from top to bottom, and
        their float32 logits on the model's device.

    Raises:
        UsageError: tile or overlap is too small to cover an image, or the model takes no tiles.
    """
    assert not model.training, "batch statistics of its own would make each tile a different model"
    device = model.mean.device
    compute = compute or model
    if model.size is not None and tile is not None:
        raise UsageError(
            f"this model brings every image to {model.size[0]} x {model.size[1]} pixels: leave "
            "tile out"
        )
    if tile is None and (model.size is not None or height * width <= LARGEST_SIDE**2):
        whole = Box(0, 0, height, width)
        yield whole, compute(read(whole)[None].to(device))[0]
        return

    stride = max(_strides(model))
    needed = _overlap_for(model, stride) if overlap is None else round_up(overlap, stride)
    if tile is None:
        tile = default_tile(model, height, width)
    size = tile // stride * stride
    overlap = needed if overlap is not None else min(needed, int(size * _SHARE) // stride * stride)
    if not 0 <= overlap < size:
        raise UsageError(
            f"tile ({size}) must be larger than overlap ({overlap}), and that not negative; "
            f"both count in multiples of the network's stride, {stride}"
        )
    rows, columns = (
        tile_spans(length, size=size, overlap=overlap, margin=7 * overlap // 16, multiple=stride)
        for length in (height, width)
    )
    above: Tensor | None = None
    for row in rows:
        below: Tensor | None = None
        left: Tensor | None = None
        for column in columns:
            box = Box(row.start, column.start, row.length, column.length)
            logits = compute(read(box)[None].to(device))[0]
            inside = Box(row.begin - row.start, column.begin - column.start, row.core, column.core)
            weights = row.weights[:, None] * column.weights
            blended = inside.crop(logits) * weights.to(device)
            if left is not None:
                blended[:, :, : left.shape[2]] += left
            left = blended[:, :, column.final :].clone()
            block = Box(row.begin, column.begin, row.final, column.final)
            done = blended[:, :, : column.final]
            if above is not None:
                kept = above[:, :, column.begin : column.begin + column.final]
                done[:, : kept.shape[1]] += kept
            if row.final < row.core:
                if below is None:
                    shape = (done.shape[0], row.core - row.final, width)
                    below = torch.empty(shape, device=device)
                below[:, :, column.begin : column.begin + column.final] = done[:, row.final :]
            yield block, done[:, : row.final]
        above = below


def default_tile(model: Segmenter, height: int, width: int) -> int:
    """The largest side of a tile of an image that is cut, where nobody says another.

    From 8192x8192 pixels on it is at most 1024, or three times the overlap. On the CPU, the main
    memory that a tile takes in the network bounds it too, so that 30,000 x 30,000 pixels are
    predicted in 2 GiB (docs/predict.md); but never so far that tiles share too little.
    """
    if height * width <= HUGE_SIDE**2:
        return LARGEST_SIDE
    # With more of it shared, most of the work would be done twice and more.
    stride = max(_strides(model))
    overlap = _overlap_for(model, stride)
    tile = min(max(_HUGE_TILE, 3 * overlap), LARGEST_SIDE)
    least = min(tile, round_up(math.ceil(overlap / _SHARE), stride))
    if model.mean.device.type == "cpu":
        weights = sum(value.nbytes for value in model.state_dict().values())
        for _ in range(2):  # What a network takes beyond the tile is not in proportion.
            taken = footprint(model.network, model.images.channels, tile, tile)
            if taken is None:
                break
            fitting = max(0, _HUGE_BYTES - weights) / (taken.features + _LOGITS * taken.logits)
            tile = min(tile, max(least, int(tile * math.sqrt(fitting))))
    return tile


def _overlap_for(model: Segmenter, stride: int) -> int:
    reach = int(getattr(model.network, "reach", _REACH))
    return round_up(-(-reach * 16 // 7), stride)


def _strides(model: Segmenter) -> tuple[int, int]:
    """By how much the sizes grow that the network accepts, in height and in width."""
    network = cast(Network, model.network)
    first = network.input_size(1, 1)
    covered = network.output_size(*first)
    second = network.input_size(covered[0] + 1, covered[1] + 1)
    return second[0] - first[0], second[1] - first[1]
