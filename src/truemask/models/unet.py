"""The U-Net: one class whose options span the original network and the variants people train today.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(2015, https://arxiv.org/abs/1505.04597). The original is `padding="valid", normalization="none"`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from truemask.errors import UsageError
from truemask.geometry import divide_up
from truemask.models.blocks import (
    ConvBlock,
    ConvPadding,
    Normalization,
    Up,
    Upsampling,
    require_positive,
)

Init = Literal["default", "kaiming_fan_out"]


class UNet(nn.Module):
    """An encoder of convolutions and max-pooling, and a decoder that joins each level's features.

    It takes the sizes that `input_size` gives; `Segmenter` pads any image to one of them.

    Args:
        in_channels: channels of the images.
        out_channels: logit channels, one for a task of two classes, else one a class.
        widths: channels of each level, from the full resolution down to the bottleneck; any
            number of levels.
        convolutions: 3x3 convolutions a level, on the way down and on the way up.
        normalization: "batch" puts a batch norm after each convolution, "none" nothing.
        dropout: probability with which a channel is dropped after each ReLU (Dropout2d), from 0
            to below 1.
        bias: whether the 3x3 convolutions have a bias; a batch norm makes it redundant.
        upsampling: "transposed" (2x2 transposed convolution) or "bilinear" (with a 1x1
            convolution before).
        padding: "same" pads each convolution with zeros; "valid" does not, so that the output is
            smaller than the input, and lies in its centre.
        attention: whether attention gates weigh the skips (`AttentionGate`).
        downscale: folds blocks of this side into channels before the first level and unfolds them
            after the head (space to depth, depth to space; Shi et al.,
            https://arxiv.org/abs/1609.05158). 2 makes the network about four times as fast, and
            its field of view twice as wide.
        init: "kaiming_fan_out" draws the weights of all convolutions by He et al.
            (https://arxiv.org/abs/1502.01852), mode fan-out, and sets biases to 0; "default" is
            PyTorch's.

    Raises:
        UsageError: an option has a value that makes no network.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        convolutions: int = 2,
        normalization: Normalization = "batch",
        dropout: float = 0.0,
        bias: bool = True,
        upsampling: Upsampling = "transposed",
        padding: ConvPadding = "same",
        attention: bool = False,
        downscale: int = 1,
        init: Init = "default",
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, out_channels=out_channels)
        require_positive(convolutions=convolutions, downscale=downscale)
        require_positive(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        _require_one_of(Normalization, normalization=normalization)
        _require_one_of(Upsampling, upsampling=upsampling)
        _require_one_of(ConvPadding, padding=padding)
        _require_one_of(Init, init=init)
        if len(widths) == 0:
            raise UsageError(
                "widths is empty: give the channels of each level, such as [32, 64, 128]"
            )
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout is {dropout}; it must be from 0 to below 1")

        self.downscale = downscale
        self.convolutions = convolutions
        self.mixed = int(upsampling == "bilinear" or attention)
        self.margin = 0 if padding == "same" else 2 * convolutions
        """Pixels that the convolutions of one level take off a side length."""

        block = partial(
            ConvBlock,
            convolutions=convolutions,
            normalization=normalization,
            dropout=dropout,
            bias=bias,
            padding=padding,
        )
        up = partial(Up, block=block, upsampling=upsampling, attention=attention)
        widths = tuple(widths)
        inputs = (in_channels * downscale**2, *widths[:-1])
        self.encoder = nn.ModuleList(map(block, inputs, widths))
        self.pool = nn.MaxPool2d(2)
        self.decoder = nn.ModuleList(map(up, widths[:0:-1], widths[-2::-1]))
        self.head = nn.Conv2d(widths[0], out_channels * downscale**2, 1)
        if init == "kaiming_fan_out":
            self.apply(_kaiming_fan_out)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L H2 W2"]:
        """Logits of normalised images.

        Args:
            images: of a size that `input_size` gives.

        Returns:
            Logits of the size `output_size(H, W)`.
        """
        height, width = images.shape[-2:]
        if self.input_size(*self.output_size(height, width)) != (height, width):
            raise UsageError(
                f"this U-Net takes no images of {height}x{width} pixels; the next size is "
                f"{self.input_size(height, width)}: wrap it in a Segmenter, which pads any size"
            )
        features = images
        if self.downscale > 1:
            features = functional.pixel_unshuffle(images, self.downscale)
        skips = []
        for level, block in enumerate(self.encoder):
            features = block(features if level == 0 else self.pool(features))
            skips.append(features)
        skips.pop()
        for up in self.decoder:
            features = up(features, skips.pop())
        logits: Tensor = self.head(features)
        if self.downscale > 1:
            logits = functional.pixel_shuffle(logits, self.downscale)
        return logits

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The smallest input size whose output covers height x width."""
        return self._input_length(height), self._input_length(width)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The size of the output for an input of an accepted size."""
        return self._output_length(height), self._output_length(width)

    @property
    def reach(self) -> int:
        """How far from a pixel what decides its logits may lie, in pixels."""
        period = self.downscale << len(self.decoder)
        return max(self._reach(position) for position in range(period, 2 * period))

    def _reach(self, position: int) -> int:
        """The same for a pixel of a row, followed back through the layers."""
        low = high = position // self.downscale
        skips = []
        for _ in self.decoder:
            low, high = low - self.convolutions, high + self.convolutions
            skips.append((low, high))
            # Bilinear upsampling, also that of gates, mixes with the neighbour; transposed
            # convolutions do not.
            low, high = (low - self.mixed) // 2, (high + self.mixed) // 2
        low, high = low - self.convolutions, high + self.convolutions
        for skip in reversed(skips):
            low, high = min(2 * low, skip[0]), max(2 * high + 1, skip[1])
            low, high = low - self.convolutions, high + self.convolutions
        low, high = low * self.downscale, (high + 1) * self.downscale - 1
        return max(position - low, high - position)

    def _input_length(self, length: int) -> int:
        length = divide_up(length, self.downscale)
        for _ in self.decoder:
            # The way up doubles a length and takes the margin off: this is the inverse.
            length = divide_up(length + self.margin, 2)
        length += self.margin
        for _ in self.decoder:
            length = 2 * length + self.margin
        return length * self.downscale

    def _output_length(self, length: int) -> int:
        length //= self.downscale
        for _ in self.decoder:
            length = (length - self.margin) // 2
        length -= self.margin
        for _ in self.decoder:
            length = 2 * length - self.margin
        return length * self.downscale


def _kaiming_fan_out(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _require_one_of(allowed: object, **options: str) -> None:
    for name, value in options.items():
        if value not in get_args(allowed):
            raise UsageError(f"{name} is {value!r}; allowed are {', '.join(get_args(allowed))}")
