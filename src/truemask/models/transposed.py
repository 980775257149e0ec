"""The transposed convolution of a U-Net's way up, with a faster gradient of its bias on the CPU."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class UpConvolution(nn.ConvTranspose2d):
    """A 2x2 transposed convolution of stride 2: `nn.ConvTranspose2d` in weights and in values.

    On the CPU, oneDNN takes ten times as long for the gradient of the bias as for those of the
    weights and of the input together (docs/performance.md). Here a sum over the pixels gives it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, stride=2)

    def forward(
        self, input: Float[Tensor, "B C H W"], output_size: list[int] | None = None
    ) -> Float[Tensor, "B D 2*H 2*W"]:
        """Features of twice the height and width."""
        if input.device.type == "cpu" and torch.is_grad_enabled() and output_size is None:
            large: Tensor = _Enlarge.apply(input, self.weight, self.bias)
            return large
        return super().forward(input, output_size)


class _Enlarge(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        deep: Float[Tensor, "B C H W"],
        weight: Float[Tensor, "C D 2 2"],
        bias: Float[Tensor, " D"],
    ) -> Float[Tensor, "B D 2*H 2*W"]:
        large = functional.conv_transpose2d(deep, weight, bias, stride=2)
        # Under autocast they are what the convolution has cast them to.
        ctx.save_for_backward(deep.to(large.dtype), weight.to(large.dtype))
        return large

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "B D 2*H 2*W"]) -> tuple[Tensor, Tensor, Tensor]:
        deep, weight = ctx.saved_tensors
        stride, padding, dilation = [2, 2], [0, 0], [1, 1]
        of_deep, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient,
            deep,
            weight,
            None,
            stride,
            padding,
            dilation,
            True,  # transposed
            [0, 0],
            1,
            [True, True, False],
        )
        return of_deep, of_weight, gradient.sum((0, 2, 3))
