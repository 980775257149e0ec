"""The parts that U-Nets are built from: convolutions, the way up, attention gates.

Every block takes plain numbers and keeps the memory format of its input, so that a network may
run in `channels_last`. Settings that add no parameters (dropout, padding) never change the names
of the parameters.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from truemask.errors import UsageError
from truemask.models.transposed import UpConvolution

Normalization = Literal["batch", "none"]
Upsampling = Literal["transposed", "bilinear"]
ConvPadding = Literal["same", "valid"]


class ConvBlock(nn.Sequential):
    """3x3 convolutions in a row, each with normalisation, ReLU and dropout of whole channels.

    Maps (B, in, H, W) to (B, out, H - m, W - m), where m is 0 with padding "same" and 2 a
    convolution with padding "valid".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        convolutions: int,
        normalization: Normalization,
        dropout: float,
        bias: bool,
        padding: ConvPadding,
    ) -> None:
        super().__init__()
        for i in range(convolutions):
            channels = in_channels if i == 0 else out_channels
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            layers["conv"] = nn.Conv2d(
                channels, out_channels, 3, padding=1 if padding == "same" else 0, bias=bias
            )
            if normalization == "batch":
                layers["norm"] = nn.BatchNorm2d(out_channels)
            layers["relu"] = nn.ReLU(inplace=True)
            if dropout > 0:
                layers["dropout"] = nn.Dropout2d(dropout)
            self.append(nn.Sequential(layers))


class AttentionGate(nn.Module):
    """Weighs each pixel of a skip by how much the deeper features ask for it.

    The additive gate of Oktay et al., "Attention U-Net" (2018, https://arxiv.org/abs/1804.03999),
    with batch norm after each 1x1 convolution. The deeper features have half the skip's
    resolution; their projection is enlarged, which costs a quarter of projecting the enlarged
    features and, but for the batch statistics, is the same.

    `coefficients` puts out the attention map, (B, 1, H, W) in (0, 1): a forward hook on it sees
    every map.
    """

    def __init__(self, *, skip_channels: int, gate_channels: int) -> None:
        super().__init__()
        hidden = max(1, skip_channels // 2)
        self.project_gate = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(gate_channels, hidden, 1), norm=nn.BatchNorm2d(hidden))
        )
        self.project_skip = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(skip_channels, hidden, 1), norm=nn.BatchNorm2d(hidden))
        )
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear")
        self.coefficients = nn.Sequential(
            OrderedDict(
                relu=nn.ReLU(),
                conv=nn.Conv2d(hidden, 1, 1),
                norm=nn.BatchNorm2d(1),
                sigmoid=nn.Sigmoid(),
            )
        )

    def forward(
        self, skip: Float[Tensor, "B C H W"], gate: Float[Tensor, "B G h w"]
    ) -> Float[Tensor, "B C H W"]:
        """The skip, each pixel times its attention."""
        asked = self.enlarge(self.project_gate(gate))
        attention: Tensor = self.coefficients(asked + self.project_skip(skip))
        return skip * attention


class Up(nn.Module):
    """One level up: doubles height and width, joins the skip of that level, and convolves both.

    Upsampling "transposed" is a 2x2 transposed convolution of stride 2; "bilinear" is a 1x1
    convolution followed by bilinear interpolation (they commute, and this order is the cheaper).
    A skip that is larger, as it is after convolutions without padding, is cropped around its
    centre.

    Args:
        deep_channels: channels of the level below.
        skip_channels: channels of the skip, and of what this level puts out.
        block: makes the convolutions, from a number of input and of output channels.
        upsampling: how height and width are doubled.
        attention: whether an attention gate weighs the skip.
    """

    def __init__(
        self,
        deep_channels: int,
        skip_channels: int,
        *,
        block: Callable[[int, int], nn.Module],
        upsampling: Upsampling,
        attention: bool,
    ) -> None:
        super().__init__()
        self.enlarge = (
            UpConvolution(deep_channels, skip_channels)
            if upsampling == "transposed"
            else nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(deep_channels, skip_channels, 1),
                    upsample=nn.Upsample(scale_factor=2, mode="bilinear"),
                )
            )
        )
        self.gate = (
            AttentionGate(skip_channels=skip_channels, gate_channels=deep_channels)
            if attention
            else None
        )
        self.block = block(2 * skip_channels, skip_channels)

    def forward(
        self, deep: Float[Tensor, "B D h w"], skip: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H2 W2"]:
        """Join the features of the level below with the skip of this level."""
        large = self.enlarge(deep)
        skip = crop_centre(skip, large.shape[-2], large.shape[-1])
        if self.gate is not None:
            skip = self.gate(skip, deep)
        both = torch.cat((skip, large), 1)
        del large  # Not to be kept while the block computes.
        joined: Tensor = self.block(both)
        return joined


def crop_centre(
    features: Float[Tensor, "B C H W"], height: int, width: int
) -> Float[Tensor, "B C h w"]:
    """The middle of a feature map, as a view."""
    top = (features.shape[-2] - height) // 2
    left = (features.shape[-1] - width) // 2
    return features[..., top : top + height, left : left + width]


def require_positive(**options: int) -> None:
    """Check numbers that count something.

    Raises:
        UsageError: one is not a whole number from 1 on.
    """
    for name, value in options.items():
        if value < 1 or value != int(value):
            raise UsageError(f"{name} is {value}; it must be a whole number from 1")
