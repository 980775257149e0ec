import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec
from truemask.models.segmenter import Segmenter
from truemask.models.texture_cnn import TextureCNN

UNIT = ImageSpec(channels=1, dtype="float32", low=0.0, high=1.0)


class Window(nn.Module):
    """A network that shows what it was given, but for a border: the simplest "valid" network."""

    def __init__(self, stride: int = 1, border: int = 0) -> None:
        super().__init__()
        self.stride, self.border = stride, border
        self.given = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        self.given = images
        height, width = images.shape[2:]
        return images[..., self.border : height - self.border, self.border : width - self.border]

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        sizes = [
            -(-side // self.stride) * self.stride + 2 * self.border for side in (height, width)
        ]
        return sizes[0], sizes[1]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return height - 2 * self.border, width - 2 * self.border


def bytes_image(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    stride=st.integers(1, 20),
    border=st.integers(0, 30),
)
def test_each_pixel_comes_back_to_its_place(
    height: int, width: int, stride: int, border: int
) -> None:
    images = bytes_image(2, 3, height, width)
    model = Segmenter(network=Window(stride, border), images=RGB)
    expected = vision.normalize(images / 255, list(RGB.mean), list(RGB.std))
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)


def test_the_image_is_mirrored_around_itself() -> None:
    network = Window(stride=8, border=4)
    images = torch.rand(1, 1, 13, 16)
    Segmenter(network=network, images=UNIT)(images)
    torch.testing.assert_close(
        network.given, functional.pad(images, (4, 4, 4, 4 + 3), mode="reflect")
    )


def test_range_and_statistics_are_the_spec_s() -> None:
    spec = ImageSpec(channels=2, dtype="float32", low=-5, high=3, mean=(0.5, 0.25), std=(0.5, 2))
    images = torch.tensor([-5.0, -1.0, 3.0]).expand(1, 2, 1, 3)
    logits = Segmenter(network=Window(), images=spec)(images)
    expected = torch.tensor([[[-1.0, 0.0, 1.0]], [[-0.125, 0.125, 0.375]]])
    torch.testing.assert_close(logits[0], expected)


def test_statistics_are_saved_and_loaded() -> None:
    model = Segmenter(network=Window(), images=RGB)
    assert {"mean", "std"} <= model.state_dict().keys()
    other = Segmenter(network=Window(), images=ImageSpec())
    other.load_state_dict(model.state_dict())
    images = bytes_image(1, 3, 4, 4)
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize(
    ("spec", "images", "message"),
    [
        (RGB, torch.rand(1, 3, 4, 4), "dtype uint8 from 0 to 255, got float32; it scales"),
        (UNIT, bytes_image(1, 1, 4, 4), "dtype float32 from 0 to 1, got uint8"),
        (UNIT, torch.rand(1, 1, 4, 4).double(), "got float64"),
        (RGB, bytes_image(1, 1, 4, 4), r"shape \(B, 3, H, W\), got \(1, 1, 4, 4\)"),
        (RGB, bytes_image(3, 4, 4), r"got \(3, 4, 4\)"),
        (UNIT, torch.full((1, 1, 2, 2), 1.5), "reach from 1.5 to 1.5, but the model takes 0 to 1"),
        (UNIT, torch.tensor([[[[-0.1, 0.5]]]]), "reach from -0.1 to 0.5"),
        (UNIT, torch.tensor([[[[0.1, torch.nan]]]]), "reach from nan to nan"),
    ],
)
def test_other_images_are_refused(spec: ImageSpec, images: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Segmenter(network=Window(), images=spec)(images)


def test_the_limits_of_the_range_are_inside() -> None:
    images = torch.tensor([[[[0.0, 1.0]]]])
    assert torch.equal(Segmenter(network=Window(), images=UNIT)(images), images)


def test_an_exported_model_refuses_values_out_of_range_too() -> None:
    program = torch.export.export(
        Segmenter(network=TextureCNN(), images=UNIT).eval(), (torch.rand(1, 1, 4, 4),)
    )
    assert program.module()(torch.ones(1, 1, 4, 4)).isfinite().all()
    with pytest.raises(RuntimeError, match="image values are outside 0 to 1"):
        program.module()(torch.full((1, 1, 4, 4), 2.0))


def test_a_network_must_tell_its_sizes() -> None:
    with pytest.raises(UsageError, match=r"Identity has no method input_size\(height, width\)"):
        Segmenter(network=nn.Identity(), images=RGB)
