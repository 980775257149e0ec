from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from truemask.errors import UsageError
from truemask.geometry import Box
from truemask.images import ImageSpec
from truemask.inference.lowered import lower
from truemask.models.segmenter import Segmenter
from truemask.models.texture_cnn import TextureCNN
from truemask.models.tiling import image_logits, logits_by_blocks
from truemask.models.unet import UNet

GREY = ImageSpec(channels=1)


class Recorder(nn.Module):
    """Puts out what it is given, and notes the sizes."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append((images.shape[2], images.shape[3]))
        return images

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


Settle = Callable[[nn.Module, Tensor], nn.Module]


def segmenter(network: nn.Module) -> Segmenter:
    return Segmenter(network=network, images=GREY).eval()


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, height, width), generator=generator).to(torch.uint8)


def unet(**options: Any) -> UNet:
    torch.manual_seed(0)
    return UNet(in_channels=1, out_channels=3, **options)


# How far a pixel sees is the sum over the layers of (kernel radius) * (scale), and of the pools.
@pytest.mark.parametrize(
    ("network", "tile", "overlap"),
    [
        (TextureCNN(), 64, 32),
        (unet(widths=(4, 4, 4), convolutions=1), 96, 48),
        (unet(widths=(4, 4, 4), convolutions=1, downscale=2), 130, 80),
        (unet(widths=(4, 4, 4), convolutions=1, padding="valid"), 96, 48),
        (unet(widths=(4, 4, 4), upsampling="bilinear", attention=True), 118, 80),
    ],
    ids=["texture", "unet", "downscaled", "valid", "attention"],
)
@pytest.mark.parametrize("size", [(150, 261), (90, 200), (97, 97)])
def test_tiles_give_the_logits_of_the_whole_image(
    network: nn.Module, tile: int, overlap: int, size: tuple[int, int], settle: Settle
) -> None:
    image = picture(*size)
    model = settle(segmenter(network), image[None])
    with torch.inference_mode():
        whole = model(image[None])[0]
    tiled = image_logits(model, image, tile=tile, overlap=overlap)
    assert whole.std() > 0.1
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        TextureCNN(),
        unet(widths=(4, 4, 4, 4, 4)),
        unet(widths=(4, 4, 4, 4), downscale=2),
        unet(widths=(4, 4, 4, 4), upsampling="bilinear"),
        unet(widths=(4, 4, 4, 4), attention=True, convolutions=3),
        unet(widths=(4, 4, 4, 4), padding="valid", convolutions=1),
    ],
    ids=["texture", "five levels", "downscaled", "bilinear", "attention", "valid"],
)
def test_the_default_overlap_is_enough(network: nn.Module, settle: Settle) -> None:
    image = picture(700, 900)
    model = settle(segmenter(network), image[None])
    torch.testing.assert_close(
        image_logits(model, image, tile=640), image_logits(model, image), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("network", "reach"),
    [
        (TextureCNN(), 8),  # four kernels of 5
        (unet(widths=(4,)), 2),  # two of 3
        # From the first of two pixels back: 1 by the last convolution of level 0; at level 1, of
        # pixels of 2, from there 1 further; then the other pixel of a pool, and 1 at level 0.
        (unet(widths=(4, 4), convolutions=1), 5),
        (unet(widths=(4, 4), convolutions=1, downscale=2), 11),
    ],
)
def test_how_far_a_network_sees(network: Any, reach: int) -> None:
    assert network.reach == reach


def test_a_lowered_network_sees_as_far() -> None:
    for network in (unet(widths=(4, 4)), Recorder()):
        plain = getattr(network, "reach", None)
        assert getattr(lower(segmenter(network)).network, "reach", None) == plain


@pytest.mark.parametrize(
    "options",
    [
        {"widths": (3, 3, 3)},
        {"widths": (3, 3, 3), "upsampling": "bilinear", "convolutions": 1},
        {"widths": (3, 3), "attention": True, "downscale": 2},
    ],
)
def test_what_lies_beyond_its_reach_changes_nothing(options: Any, settle: Settle) -> None:
    """And something does change what lies just within, for some pixel."""
    network: Any = unet(**options)
    side = -(-(4 * network.reach + 8) // 8) * 8
    images = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    model: Any = settle(network, images)
    furthest = 0
    period = options.get("downscale", 1) << (len(options["widths"]) - 1)
    with torch.inference_mode():
        before = model(images)
        for place in range(side // 2, side // 2 + period):
            for value in (-9.0, 9.0):
                changed = images.clone()
                changed[..., place] += value
                columns = (model(changed) != before).any(2).any(1)[0].nonzero()[:, 0]
                furthest = max(furthest, int((columns - place).abs().max()))
    assert furthest == network.reach


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    stride=st.integers(1, 9),
    overlap=st.integers(0, 30),
    extra=st.integers(18, 50),
)
def test_tiles_cover_each_pixel_and_put_it_in_its_place(
    height: int, width: int, stride: int, overlap: int, extra: int
) -> None:
    network = Recorder(stride)
    model, image = segmenter(network), picture(height, width)
    tile = overlap + extra
    tiled = image_logits(model, image, tile=tile, overlap=overlap)
    torch.testing.assert_close(tiled, image / 255, rtol=1e-5, atol=1e-6)
    assert max(max(size) for size in network.sizes) <= tile


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    stride=st.integers(1, 5),
    overlap=st.integers(0, 24),
    extra=st.integers(5, 30),
)
def test_blocks_are_what_is_kept_of_the_whole(
    height: int, width: int, stride: int, overlap: int, extra: int
) -> None:
    """Also of tiles so near to each other that three share a pixel."""
    model, image = segmenter(Recorder(stride)), picture(height, width)
    overlap *= stride
    tile = overlap + extra * stride
    read: list[Box] = []

    def crop(box: Box) -> Tensor:
        read.append(box)
        return box.crop(image)

    seen = torch.zeros(height, width)
    whole = image_logits(model, image, tile=tile, overlap=overlap)
    with torch.inference_mode():
        for box, logits in logits_by_blocks(model, crop, height, width, tile=tile, overlap=overlap):
            assert torch.equal(box.crop(whole), logits)
            box.crop(seen).add_(1)
    assert torch.equal(seen, torch.ones(height, width))
    assert [(box.top, box.left) for box in read] == sorted((box.top, box.left) for box in read)


def test_a_huge_image_is_read_in_tiles_and_kept_in_narrow_bands() -> None:
    """20,000 x 4,000 pixels, which are made as they are asked for."""
    height, width = 20_000, 4_000
    model = segmenter(Recorder())
    rows = torch.arange(height)[:, None]
    columns = torch.arange(width)

    def make(box: Box) -> Tensor:
        values = box.crop(rows.expand(-1, width)) * 7 + box.crop(columns.expand(height, -1)) * 3
        largest.append(box.height * box.width)
        return (values % 251)[None].to(torch.uint8)

    largest: list[int] = []
    with torch.inference_mode():
        blocks = logits_by_blocks(model, make, height, width)
        for count, (box, logits) in enumerate(blocks):
            if count % 97 == 0:
                torch.testing.assert_close(logits, make(box) / 255, rtol=1e-5, atol=1e-6)
    assert (box.top + box.height, box.left + box.width) == (height, width)
    assert max(largest) <= 1024**2


def test_an_image_goes_whole_up_to_2048_by_2048_pixels() -> None:
    network = Recorder()
    model = segmenter(network)
    image_logits(model, picture(1024, 4096))
    assert network.sizes == [(1024, 4096)]
    network.sizes.clear()
    image_logits(model, picture(1100, 4000))
    assert network.sizes == [(1100, 1504)] * 3


def test_the_mode_must_be_evaluation() -> None:
    with pytest.raises(AssertionError, match="batch statistics"):
        image_logits(segmenter(Recorder()).train(), picture(4, 4))


@pytest.mark.parametrize(("tile", "overlap"), [(32, 32), (40, 33), (64, -16), (8, 0)])
def test_a_tile_must_be_larger_than_the_overlap(tile: int, overlap: int) -> None:
    with pytest.raises(UsageError, match="must be larger than overlap"):
        image_logits(segmenter(Recorder(stride=16)), picture(99, 99), tile=tile, overlap=overlap)
