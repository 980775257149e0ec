import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from truemask.data.randomness import seeded
from truemask.data.transforms import RandomScaleCrop, augment
from truemask.datasets.sample import Sample
from truemask.errors import UsageError


def coded_sample(height: int = 40, width: int = 60) -> Sample:
    """A sample whose mask can be read off its image: wherever both are moved alike, they agree."""
    ids = (torch.arange(height)[:, None] // 10 * 6 + torch.arange(width)[None, :] // 10).to(
        torch.uint8
    )
    image = (ids * 10)[None].repeat(3, 1, 1)
    return Sample(image=tv_tensors.Image(image), mask=tv_tensors.Mask(ids), name="a")


side = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(side, side, side, side, st.integers(0, 99))
def test_crop_has_the_size_and_keeps_the_dtype(height, width, rows, columns, seed) -> None:
    sample = coded_sample(height, width)
    crop = RandomScaleCrop(size=[rows, columns], scale=[0.5, 2.0], stretch=1.3)
    with seeded(seed):
        image, mask = crop(sample.image, sample.mask)
    assert image.shape == (3, rows, columns)
    assert mask.shape == (rows, columns)
    assert image.dtype == mask.dtype == torch.uint8


@pytest.mark.parametrize("seed", range(20))
def test_image_and_mask_move_together(seed: int) -> None:
    sample = coded_sample()
    transforms = [
        RandomScaleCrop(size=[32, 32], scale=[1.0, 1.0]),
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
    ]
    moved = augment(sample, transforms, address=(0, 0, seed))
    assert torch.equal(moved.image[0], moved.mask * 10)


@pytest.mark.parametrize("seed", range(10))
def test_zooming_moves_them_together_up_to_the_borders(seed: int) -> None:
    sample = coded_sample()
    moved = augment(
        sample, [RandomScaleCrop(size=[40, 40], scale=[0.7, 2.0])], address=(0, 1, seed)
    )
    seen = moved.mask != 255
    agree = (moved.image[0].float() - moved.mask.float() * 10).abs() <= 5
    assert agree[seen].float().mean() > 0.7
    assert set(moved.mask[seen].tolist()) <= set(sample.mask.flatten().tolist())


def test_what_lies_outside_the_image_is_ignored_not_background() -> None:
    sample = coded_sample(10, 10)
    with seeded(0):
        _, mask = RandomScaleCrop(size=[30, 30])(sample.image, sample.mask)
    assert int((mask != 255).sum()) == 100


def test_augmentation_is_a_function_of_the_address() -> None:
    sample = coded_sample()
    transforms = [RandomScaleCrop(size=[16, 16]), v2.ColorJitter(brightness=0.5)]
    torch.manual_seed(0)
    first = augment(sample, transforms, address=(1, 2, 3))
    torch.manual_seed(9)
    again = augment(sample, transforms, address=(1, 2, 3))
    other = augment(sample, transforms, address=(1, 2, 4))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.mask, again.mask)
    assert not torch.equal(first.image, other.image)


def test_colours_leave_the_mask_alone() -> None:
    sample = coded_sample()
    jittered = augment(sample, [v2.ColorJitter(brightness=0.9)], address=(0, 0, 1))
    assert torch.equal(jittered.mask, sample.mask)
    assert not torch.equal(jittered.image, sample.image)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"size": [3]}, "height, width"),
        ({"size": [3, 0]}, "height, width"),
        ({"size": [3, 3], "scale": [2, 1]}, "low <= high"),
        ({"size": [3, 3], "scale": [0, 1]}, "low <= high"),
        ({"size": [3, 3], "stretch": 0.5}, "stretch"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        RandomScaleCrop(**settings)
