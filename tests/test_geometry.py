import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from truemask.geometry import Box, Padding, pad_to, round_up, tile, tile_weights

sides = st.integers(0, 5)
paddings = st.builds(Padding, sides, sides, sides, sides)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def numbered(*shape, dtype=torch.float32):
    """A tensor whose values are all different."""
    return torch.arange(torch.Size(shape).numel()).view(shape).to(dtype)


# Padding


@given(paddings, sizes, st.sampled_from([(), (3,), (2, 3)]))
def test_removing_brings_back_what_was_padded(padding, size, leading):
    pixels = numbered(*leading, *size)
    added = padding.add(pixels, value=-1)
    height, width = size
    assert added.shape == (
        *leading,
        padding.top + height + padding.bottom,
        padding.left + width + padding.right,
    )
    assert torch.equal(padding.remove(added), pixels)
    # All that was added holds the value.
    assert (added == -1).sum() == added.numel() - pixels.numel()


@given(paddings, sizes)
def test_mirroring_is_removed_likewise_and_invents_no_value(padding, size):
    pixels = numbered(1, 2, *size)
    added = padding.add_mirrored(pixels)
    assert added.shape == padding.add(pixels).shape
    assert torch.equal(padding.remove(added), pixels)
    for channel in (0, 1):
        assert set(added[0, channel].unique().tolist()) <= set(pixels[0, channel].unique().tolist())


def test_mirroring_reflects_about_the_border_pixel():
    pixels = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    added = Padding(top=1, left=2).add_mirrored(pixels)
    assert added[0, 0].tolist() == [
        [6, 5, 4, 5, 6],
        [3, 2, 1, 2, 3],
        [6, 5, 4, 5, 6],
        [9, 8, 7, 8, 9],
    ]


def test_an_image_too_small_to_mirror_repeats_its_border():
    added = Padding(bottom=2, right=1).add_mirrored(torch.tensor([[[[1.0, 2]]]]))
    assert added[0, 0].tolist() == [[1, 2, 2]] * 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.bool])
def test_masks_are_padded_in_their_own_dtype(dtype):
    value = 1 if dtype == torch.bool else 255
    added = Padding(right=1).add(torch.zeros(2, 2, dtype=dtype), value=value)
    assert added.dtype == dtype
    assert added[:, 2].tolist() == [value, value]


def test_no_padding_copies_nothing():
    pixels = numbered(1, 1, 3, 3)
    assert Padding().add_mirrored(pixels) is pixels


def test_negative_padding_is_refused():
    with pytest.raises(AssertionError, match="negative sides"):
        Padding(left=-1)
    with pytest.raises(AssertionError, match="negative sides"):
        pad_to(10, 10, to_height=9, to_width=10)


@given(st.integers(0, 1000), st.integers(1, 64))
def test_round_up_is_the_smallest_multiple(size, multiple):
    rounded = round_up(size, multiple)
    assert rounded % multiple == 0
    assert size <= rounded < size + multiple


@given(sizes, sides, sides)
def test_pad_to_reaches_the_size_at_the_bottom_and_right(size, more_rows, more_columns):
    height, width = size
    wanted = (height + more_rows, width + more_columns)
    padding = pad_to(height, width, to_height=wanted[0], to_width=wanted[1])
    added = padding.add(numbered(height, width), value=-1)
    assert added.shape == wanted
    assert torch.equal(added[:height, :width], numbered(height, width))


# Boxes


@st.composite
def boxes_inside(draw):
    height, width = draw(sizes)
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box_height, box_width = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    return (height, width), Box(top, left, box_height, box_width)


@given(boxes_inside())
def test_pasting_what_was_cropped_restores_it(case):
    (height, width), box = case
    pixels = numbered(2, height, width)
    cropped = box.crop(pixels)
    assert cropped.shape == (2, box.height, box.width)
    assert cropped[0, 0, 0] == box.top * width + box.left
    canvas = torch.full_like(pixels, -1)
    box.paste(canvas, cropped)
    assert torch.equal(box.crop(canvas), cropped)
    assert (canvas == -1).sum() == 2 * (height * width - box.height * box.width)


def test_a_crop_is_a_view():
    pixels = numbered(4, 4)
    Box(1, 1, 2, 2).crop(pixels).zero_()
    assert pixels[1:3, 1:3].sum() == 0
    assert pixels.count_nonzero() == 11


# Tiles


@st.composite
def tilings(draw):
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    size = draw(st.integers(1, 30))
    return height, width, size, draw(st.integers(0, size - 1))


@given(tilings())
def test_tiles_cover_the_image_and_share_the_overlap(tiling):
    height, width, size, overlap = tiling
    boxes = tile(height, width, size=size, overlap=overlap)
    count = torch.zeros(height, width)
    for box in boxes:
        assert (box.height, box.width) == (min(size, height), min(size, width))
        assert box.top >= 0
        assert box.left >= 0
        assert box.crop(count).shape == (box.height, box.width)
        box.crop(count).add_(1)
    assert (count > 0).all()
    assert len(set(boxes)) == len(boxes)
    for starts in (
        sorted({box.top for box in boxes}),
        sorted({box.left for box in boxes}),
    ):
        for start, following in zip(starts, starts[1:], strict=False):
            assert start + size - following >= overlap


@given(tilings())
def test_no_tile_could_be_left_out(tiling):
    height, width, size, overlap = tiling
    for length, other in ((height, width), (width, height)):
        count = len(tile(length, other, size=size, overlap=overlap)) // len(
            tile(1, other, size=size, overlap=overlap)
        )
        # With one tile fewer the image would not be covered with this overlap.
        assert count == 1 or (count - 1) * (size - overlap) + overlap < length


def test_tiles_worked_by_hand():
    boxes = tile(10, 4, size=4, overlap=1)
    assert boxes == [Box(0, 0, 4, 4), Box(3, 0, 4, 4), Box(6, 0, 4, 4)]
    assert [box.top for box in tile(11, 4, size=4, overlap=1)] == [0, 3, 6, 7]
    assert tile(3, 9, size=10, overlap=9) == [Box(0, 0, 3, 9)]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_that_leaves_no_step_is_refused(overlap):
    with pytest.raises(ValueError, match=f"overlap {overlap} must be from 0 to below .* 8"):
        tile(20, 20, size=8, overlap=overlap)


@given(tilings(), st.integers(0, 9))
def test_blended_tiles_of_an_image_are_the_image(tiling, seed):
    height, width, size, overlap = tiling
    image = torch.rand(height, width, generator=torch.Generator().manual_seed(seed))
    total, weights = torch.zeros(height, width), torch.zeros(height, width)
    for box in tile(height, width, size=size, overlap=overlap):
        weight = tile_weights(box, height=height, width=width, overlap=overlap)
        assert weight.shape == (box.height, box.width)
        assert ((weight > 0) & (weight <= 1)).all()
        box.crop(total).add_(weight * box.crop(image))
        box.crop(weights).add_(weight)
    torch.testing.assert_close(total / weights, image)


def test_weights_fall_linearly_over_the_overlap_and_add_up_to_one():
    # 10 = 4 + 3 + 3: neighbours share exactly one overlap of 1, so nothing needs dividing.
    total = torch.zeros(10, 4)
    for box in tile(10, 4, size=4, overlap=1):
        box.crop(total).add_(tile_weights(box, height=10, width=4, overlap=1))
    assert torch.equal(total, torch.ones(10, 4))
    first = tile_weights(Box(0, 0, 5, 1), height=9, width=1, overlap=3)
    torch.testing.assert_close(first[:, 0], torch.tensor([1, 1, 0.75, 0.5, 0.25]))
    middle = tile_weights(Box(2, 0, 5, 1), height=9, width=1, overlap=1)
    torch.testing.assert_close(middle[:, 0], torch.tensor([0.5, 1, 1, 1, 0.5]))


def test_sides_at_the_images_border_do_not_fall():
    weights = tile_weights(Box(0, 0, 6, 6), height=6, width=12, overlap=2)
    assert torch.equal(weights[0], weights[5])
    assert weights[:, :4].eq(1).all()
    torch.testing.assert_close(weights[0, 4:], torch.tensor([2 / 3, 1 / 3]))
