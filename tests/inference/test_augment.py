"""Test-time augmentation, held against averages made by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec, resize_image
from truemask.inference.augment import augmented
from truemask.inference.predict_image import predict_image
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet

GREY = ImageSpec(channels=1)
LABELS = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2})
BINARY = LabelMap(names=("a", "b"), values={0: 0, 1: 1})


class Pixelwise(nn.Module):
    """A network whose answer at a pixel depends on that pixel alone: mirror images say the same."""

    def __init__(self, logits: int) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        steps = torch.arange(1, self.logits + 1).view(1, -1, 1, 1)
        return torch.sin(images[:, :1] * 7 * steps) * 3

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


def unet(labels: LabelMap) -> Segmenter:
    torch.manual_seed(0)
    network = UNet(in_channels=3, out_channels=labels.num_logits, widths=(4, 8))
    nn.init.normal_(network.head.weight)
    return Segmenter(network=network, images=RGB).eval()


def bundle_of(model: Segmenter, labels: LabelMap, temperature: float = 1.0) -> Bundle:
    return Bundle(model=model, labels=labels, network={}, info={}, temperature=temperature)


def photo(height: int, width: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (channels, height, width), generator=generator).to(torch.uint8)


sides = st.integers(1, 40)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(height=sides, width=sides, labels=st.sampled_from([LABELS, BINARY]))
def test_flips_change_nothing_where_pixels_are_seen_alone(
    height: int, width: int, labels: LabelMap
) -> None:
    model = Segmenter(network=Pixelwise(labels.num_logits), images=GREY).eval()
    bundle, image = bundle_of(model, labels), photo(height, width, 1)
    plain = predict_image(bundle, image, probabilities=True)
    flipped = predict_image(bundle, image, probabilities=True, flips=True)
    assert plain.probabilities is not None
    assert flipped.probabilities is not None
    assert torch.equal(plain.ids, flipped.ids)
    torch.testing.assert_close(plain.probabilities, flipped.probabilities, atol=1e-3, rtol=1e-3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    height=sides,
    width=sides,
    labels=st.sampled_from([LABELS, BINARY]),
    temperature=st.sampled_from([1.0, 2.5]),
    flips=st.booleans(),
    scales=st.sampled_from([(1.0,), (0.75, 1.0, 1.25), (0.5,), (1.3, 0.6)]),
)
def test_it_is_the_mean_of_the_probabilities(
    height: int,
    width: int,
    labels: LabelMap,
    temperature: float,
    flips: bool,
    scales: tuple[float, ...],
) -> None:
    model, image = unet(labels), photo(height, width)
    bundle = bundle_of(model, labels, temperature)
    seen = []
    with torch.inference_mode():
        for scale in scales:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            resized = image if scale == 1 else resize_image(image, size)
            for axes in [(), (1,), (2,), (1, 2)] if flips else [()]:
                logits = model(resized.flip(axes)[None])[0].flip(axes)
                if scale != 1:
                    logits = functional.interpolate(logits[None], (height, width), mode="bilinear")[
                        0
                    ]
                seen.append(bundle.probabilities(logits[None])[0].double())
    expected = torch.stack(seen).mean(0)
    found = predict_image(bundle, image, flips=flips, scales=scales, probabilities=True)
    assert found.probabilities is not None
    assert found.ids.shape == (height, width)
    torch.testing.assert_close(found.probabilities.double(), expected, atol=2e-3, rtol=2e-3)
    sure = expected.sort(0).values.diff(dim=0)[-1] > 1e-4
    assert torch.equal(found.ids[sure].long(), expected.argmax(0)[sure])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(height=sides, width=sides)
def test_the_mirror_image_has_the_mirrored_mask(height: int, width: int) -> None:
    """Also where a side is no multiple of the network's stride, and padding lies on one side."""
    with torch.inference_mode():
        compute = augmented(unet(LABELS), flips=True, scales=(1.0,), temperature=1.0)
        image = photo(height, width)[None]
        for axes in [(-1,), (-2,), (-2, -1)]:
            torch.testing.assert_close(
                compute(image.flip(axes)), compute(image).flip(axes), atol=1e-4, rtol=1e-4
            )


def test_certain_answers_stay_finite() -> None:
    for labels in (LABELS, BINARY):
        model = Segmenter(network=Pixelwise(labels.num_logits), images=GREY).eval()
        with torch.inference_mode():
            compute = augmented(model, flips=True, scales=(1.0, 2.0), temperature=0.01)
            assert compute(photo(9, 7, 1)[None]).isfinite().all()


def test_a_model_of_one_size_takes_flips_but_no_scales() -> None:
    model = Segmenter(network=Pixelwise(3), images=GREY, size=(16, 16)).eval()
    bundle, image = bundle_of(model, LABELS), photo(20, 30, 1)
    assert predict_image(bundle, image, flips=True).ids.shape == (20, 30)
    with pytest.raises(UsageError, match="leave --scales out"):
        predict_image(bundle, image, scales=(0.5, 1.0))
