from typing import Any

import pytest
import torch
from torch import Tensor, nn

from truemask.images import ImageSpec
from truemask.inference.lowered import lower
from truemask.models.footprint import Footprint, footprint
from truemask.models.segmenter import Segmenter
from truemask.models.tiling import default_tile
from truemask.models.unet import UNet


class Chain(nn.Module):
    """1x1 convolutions in a row."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(widths, widths[1:], strict=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = layer(images)
        return images

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 8) * 8, -(-width // 8) * 8

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


class Asking(Chain):
    """What it does depends on values."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.mean() > 0 else -images)


def test_the_most_at_one_time_is_an_input_and_an_output() -> None:
    # The caller holds the image too: 4 + 10 + 20 channels, of 24 x 40 pixels, of 4 bytes.
    assert footprint(Chain(4, 10, 20, 2), 4, 20, 33) == Footprint(
        features=24 * 40 * 4 * (4 + 10 + 20), logits=24 * 40 * 4 * 2
    )


@pytest.mark.parametrize(
    "options", [{}, {"attention": True}, {"padding": "valid", "convolutions": 1}], ids=str
)
def test_it_says_what_allocations_say(options: Any) -> None:
    """Held against PyTorch's own account of every allocation."""
    torch.manual_seed(0)
    network = UNet(in_channels=3, out_channels=2, widths=(4, 8, 16), **options).eval()
    size = network.input_size(200, 200)
    # In the order that prediction uses; others are copied within convolutions.
    image = torch.zeros(1, 3, *size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
        network(image)
    now, most = image.nbytes, image.nbytes
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    found = footprint(network, 3, 200, 200)
    assert found is not None
    assert found.features == pytest.approx(most, rel=0.001)


def test_weights_stay_where_they_are_and_as_they_are() -> None:
    network = UNet(in_channels=1, out_channels=1, widths=(2, 4)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    footprint(network, 1, 64, 64)
    for name, value in network.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, before[name])


def test_a_network_that_asks_for_values_has_none() -> None:
    assert footprint(Asking(1, 1), 1, 8, 8) is None


def test_tiles_of_huge_images_are_smaller_the_more_a_network_takes() -> None:
    def tile(*widths: int, low: bool = False) -> int:
        network = UNet(in_channels=1, out_channels=2, widths=widths)
        model = Segmenter(network=network, images=ImageSpec(channels=1)).eval()
        return default_tile(lower(model) if low else model, 30_000, 30_000)

    assert tile(2, 4) == 1024
    assert tile(64, 64) < tile(32, 64) <= 1024
    assert tile(64, 64) < tile(64, 64, low=True)


def test_tiles_of_huge_images_stay_as_large_as_what_they_must_share_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("truemask.models.tiling._HUGE_BYTES", 2**20)
    network = UNet(in_channels=1, out_channels=2, widths=(4, 4, 4, 4))
    model = Segmenter(network=network, images=ImageSpec(channels=1)).eval()
    # On either side 7/16 of the overlap are thrown away, and that takes up to 5/8 of a tile.
    assert default_tile(model, 30_000, 30_000) * 5 / 8 * 7 / 16 >= network.reach
    assert default_tile(model, 30_000, 30_000) < 256


def test_tiles_of_huge_images_of_a_network_that_asks_for_values() -> None:
    model = Segmenter(network=Asking(1, 2), images=ImageSpec(channels=1)).eval()
    assert default_tile(model, 30_000, 30_000) == 1024
    assert default_tile(model, 3_000, 3_000) == 2048
