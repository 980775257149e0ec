import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from truemask.data.randomness import seeded
from truemask.data.transforms import RandomQuarterTurn, RandomScaleCrop, augment
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


def test_focus_lays_its_share_of_the_windows_on_the_class() -> None:
    mask = torch.zeros(40, 50, dtype=torch.uint8)
    mask[7, 33] = 1  # one pixel, which a window of 5 x 5 covers by chance in about one of 70
    image = tv_tensors.Image(torch.zeros(3, 40, 50, dtype=torch.uint8))
    crop = RandomScaleCrop(size=(5, 5), focus={1: 0.3, 2: 0.2})
    torch.manual_seed(0)
    hits = sum(int((crop(image, tv_tensors.Mask(mask))[1] == 1).any()) for _ in range(2000))
    assert 0.27 < hits / 2000 < 0.36  # class 2 is absent, so its share goes anywhere


def test_a_window_in_focus_lies_inside_and_covers_the_pixel_wherever_it_is() -> None:
    torch.manual_seed(0)
    crop = RandomScaleCrop(size=(6, 7), focus={3: 1.0})
    for place in [(0, 0), (0, 19), (11, 0), (11, 19), (5, 9)]:
        mask = torch.arange(12 * 20).reshape(12, 20).remainder(3).to(torch.uint8)
        mask[place] = 3
        image = tv_tensors.Image(torch.zeros(3, 12, 20, dtype=torch.uint8))
        for _ in range(20):
            _, ids = crop(image, tv_tensors.Mask(mask))
            assert ids.shape == (6, 7)
            assert int((ids == 3).sum()) == 1
            assert int((ids == 255).sum()) == 0


def test_without_focus_the_windows_are_as_ever() -> None:
    image = tv_tensors.Image(
        torch.arange(3 * 30 * 30).remainder(256).to(torch.uint8).view(3, 30, 30)
    )
    mask = tv_tensors.Mask(torch.zeros(30, 30, dtype=torch.uint8))
    found = []
    for crop in (RandomScaleCrop(size=(9, 9)), RandomScaleCrop(size=(9, 9), focus={})):
        torch.manual_seed(4)
        found.append(crop(image, mask)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("focus", [{0: -0.1}, {0: 0.7, 1: 0.4}])
def test_focus_is_shares(focus: dict[int, float]) -> None:
    with pytest.raises(UsageError, match="at most 1"):
        RandomScaleCrop(size=(4, 4), focus=focus)


def test_quarter_turns_move_image_and_mask_alike_and_each_is_as_likely() -> None:
    pixels = torch.arange(16, dtype=torch.uint8).view(4, 4)
    image, mask = tv_tensors.Image(pixels.expand(3, 4, 4)), tv_tensors.Mask(pixels)
    turned = [pixels.rot90(k) for k in range(4)]
    counts = [0] * 4
    torch.manual_seed(0)
    for _ in range(400):
        found, ids = RandomQuarterTurn()(image, mask)
        assert all(torch.equal(plane, ids) for plane in found)
        counts[next(k for k in range(4) if torch.equal(ids, turned[k]))] += 1
    assert min(counts) > 70


def test_what_is_not_square_keeps_its_shape() -> None:
    mask = tv_tensors.Mask(torch.arange(6, dtype=torch.uint8).view(2, 3))
    image = tv_tensors.Image(torch.zeros(3, 2, 3, dtype=torch.uint8))
    shapes = {tuple(RandomQuarterTurn()(image, mask)[1].shape) for _ in range(40)}
    assert shapes == {(2, 3)}
