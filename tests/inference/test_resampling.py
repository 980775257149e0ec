"""Resizing and pooling by matrices, held against PyTorch's own."""

import pytest
import torch
from torch.nn import functional

from truemask.inference.resampling import binned, resized, resized_antialiased

SIZES = [(360, 480), (256, 512), (33, 47), (1, 1), (7, 900), (2000, 3), (128, 128)]


def picture(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 10_000 + width)
    return (torch.rand(2, 3, height, width, generator=generator) * 255).round()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wanted", [(256, 512), (64, 48), (5, 7)])
def test_images_are_resized_as_by_pytorch(size, wanted):
    images = picture(*size)
    expected = functional.interpolate(images, wanted, mode="bilinear", antialias=True)
    assert (resized_antialiased(images, wanted) - expected).abs().max() < 2e-4  # of 255


@pytest.mark.parametrize("size", [(256, 512), (64, 48), (5, 7), (1, 1)])
@pytest.mark.parametrize("wanted", SIZES)
def test_logits_are_resized_as_by_pytorch(size, wanted):
    logits = picture(*size) / 100
    expected = functional.interpolate(logits, wanted, mode="bilinear")
    assert (resized(logits, wanted) - expected).abs().max() < 2e-5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bins", [(1, 1), (2, 2), (3, 2), (6, 6)])
def test_images_are_pooled_as_by_pytorch(size, bins):
    images = picture(*size)
    expected = functional.adaptive_avg_pool2d(images, bins)
    assert torch.allclose(binned(images, bins), expected, rtol=1e-5, atol=1e-3)
