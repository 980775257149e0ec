"""A model as one function of plain pixels, so that it can leave Python.

What a bundle knows goes inside: scaling, padding to the network's stride, cropping back, the choice
of the class. What comes in is what a decoder of images gives, of any height and width.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional

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
        self.model = model
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
        # As `resize_image`, which asks which side is longer: a program that is exported with it
        # takes no images but those that are wider than high.
        small = functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
        logits = self._whole(small)
        return functional.interpolate(logits, wanted, mode="bilinear")

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
