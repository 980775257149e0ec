"""The transposed convolution of the way up, held against PyTorch's own."""

import pytest
import torch
from torch import nn

from truemask.models.transposed import UpConvolution


def gradients(layer: nn.Module, images: torch.Tensor, weights: torch.Tensor, *, bf16: bool):
    """What comes out, and the gradients of input, weight and bias of a weighted sum of it."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        large = layer(images)
    (large * weights).sum().backward()
    return large, images.grad, layer.weight.grad, layer.bias.grad


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bf16", [False, True])
def test_values_and_gradients_are_those_of_the_plain_layer(order, bf16: bool) -> None:
    torch.manual_seed(0)
    ours = UpConvolution(8, 6)
    plain = nn.ConvTranspose2d(8, 6, 2, stride=2)
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(3, 8, 5, 7).contiguous(memory_format=order)
    weights = torch.randn(3, 6, 10, 14)
    found, expected = (gradients(each, images, weights, bf16=bf16) for each in (ours, plain))
    assert found[0].dtype == (torch.bfloat16 if bf16 else torch.float32)
    assert torch.equal(found[0], expected[0])
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert mine.dtype == theirs.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=1e-2 if bf16 else 1e-5, atol=1e-4)


def test_without_gradients_it_is_the_plain_layer() -> None:
    layer = UpConvolution(4, 2)
    images = torch.randn(1, 4, 3, 3)
    with torch.inference_mode():
        large = layer(images)
    assert torch.equal(large, layer(images).detach())


def test_frozen_weights_get_no_gradient() -> None:
    layer = UpConvolution(4, 2).requires_grad_(False)
    images = torch.randn(1, 4, 3, 3, requires_grad=True)
    layer(images).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(
        images.grad, layer.weight.sum((1, 2, 3))[None, :, None, None].expand_as(images)
    )
