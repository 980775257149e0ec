"""A model as one function of plain pixels, so that it can leave Python.

What a bundle knows goes inside: scaling, padding to the network's stride, cropping back, the choice
of the class. What comes in is what a decoder of images gives, of any height and width.
"""

import copy
from typing import cast

import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor, nn

from truemask.inference.resampling import binned, resized, resized_antialiased
from truemask.models.segmenter import Network, Segmenter


class Portable(nn.Module):
    """From images as decoders give them to class ids.

    The same numbers as `Segmenter` and `LabelMap.decode` give; only the padding is written as an
    index, which exporters can follow for every size.

    Args:
        model: in evaluation mode.
        temperature: by which the logits are divided before they become probabilities.
        probabilities: whether the probability of each class is given too.
    """

    def __init__(
        self, model: Segmenter, *, temperature: float = 1.0, probabilities: bool = False
    ) -> None:
        super().__init__()
        self.model = _with_portable_pooling(model)
        self.temperature = temperature
        self.probabilities = probabilities

    def forward(
        self, image: Shaped[Tensor, "N H W C"]
    ) -> tuple[UInt8[Tensor, "N H W"], Float[Tensor, " N"], *tuple[Float[Tensor, "N K H W"], ...]]:
        """Class ids, and how sure the model is of them.

        Args:
            image: of the dtype, channels and range of the model's `ImageSpec`; its range is not
                looked at.

        Returns:
            The most probable class of each pixel; the mean over pixels of its probability; and the
            probability of each class, where that was asked for.
        """
        logits = self._logits(image.permute(0, 3, 1, 2))
        if logits.shape[1] == 1:
            ids = (logits[:, 0] > 0).to(torch.uint8)
            foreground = (logits / self.temperature).sigmoid()
            shares = torch.cat((1 - foreground, foreground), 1)
        else:
            ids = logits.argmax(1).to(torch.uint8)
            shares = (logits / self.temperature).softmax(1)
        confidence = shares.amax(1).mean((1, 2))
        return (ids, confidence, shares) if self.probabilities else (ids, confidence)

    def _logits(self, images: Shaped[Tensor, "N C H W"]) -> Float[Tensor, "N L H W"]:
        size = self.model.size
        if size is None:
            return self._whole(images)
        wanted = (images.shape[-2], images.shape[-1])
        logits = self._whole(resized_antialiased(images.float(), size))
        return resized(logits, wanted)

    def _whole(self, images: Shaped[Tensor, "N C H W"]) -> Float[Tensor, "N L H W"]:
        height, width = images.shape[-2:]
        network = cast(Network, self.model.network)
        rows, columns = network.input_size(height, width)
        covered = network.output_size(rows, columns)
        down = torch.arange(rows) - (rows - covered[0]) // 2
        across = torch.arange(columns) - (columns - covered[1]) // 2
        mirrors = _is_near(down, height) & _is_near(across, width)
        # Padded before it is scaled: then a quarter of the bytes are moved.
        padded = images.index_select(2, _inside(down, height, mirrors))
        padded = padded.index_select(3, _inside(across, width, mirrors))
        logits: Tensor = self.model.network(self.model._normalize(padded))
        # Not sliced: an exported program would then hold for sizes that need padding only.
        return logits.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))


class _BinMeans(nn.Module):
    """`nn.AdaptiveAvgPool2d`, for every size."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.size = (rows, columns)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C rows columns"]:
        return binned(x, self.size)


def _with_portable_pooling(model: Segmenter) -> Segmenter:
    """The model, or a copy with `_BinMeans` where it pools to several bins, as pyramids do."""

    def bins(layer: nn.Module) -> tuple[int, int] | None:
        if not isinstance(layer, nn.AdaptiveAvgPool2d):
            return None
        size = layer.output_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        return None if rows is None or columns is None or rows == columns == 1 else (rows, columns)

    if not any(bins(layer) for layer in model.modules()):
        return model
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if (found := bins(layer)) is not None:
                setattr(parent, name, _BinMeans(*found))
    return model


def _is_near(places: Int64[Tensor, " P"], length: int) -> Bool[Tensor, ""]:
    """Whether padding reaches no further than an image mirrored once does."""
    return (places[0] > -length) & (places[-1] < 2 * length - 1)


def _inside(
    places: Int64[Tensor, " P"], length: int, mirrors: Bool[Tensor, ""]
) -> Int64[Tensor, " P"]:
    """The row of an image that stands in each row of its padded copy, as `add_mirrored` pads."""
    last = length - 1
    mirrored = last - (last - places.abs()).abs()
    return torch.where(mirrors, mirrored, places).clamp(min=0).clamp(max=last)
