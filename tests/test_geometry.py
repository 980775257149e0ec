import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from truemask.geometry import Box, Padding, pad_to, round_up, tile_spans

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
    """Length, and the options of `tile_spans`."""
    multiple = draw(st.integers(1, 5))
    overlap = draw(st.integers(0, 8)) * multiple
    size = overlap + draw(st.integers(1, 8)) * multiple
    margin = draw(st.integers(0, overlap // 2))
    options = {"size": size, "overlap": overlap, "margin": margin, "multiple": multiple}
    return draw(st.integers(1, 150)), options


@given(tilings())
def test_tiles_cover_an_axis_and_share_the_overlap(tiling):
    length, options = tiling
    spans = tile_spans(length, **options)
    total, finals = torch.zeros(length), []
    for span in spans:
        assert span.start % options["multiple"] == 0
        assert 0 < span.length <= options["size"]
        inside = span.begin - span.start
        assert inside == (options["margin"] if span.start else 0)
        cut = span.length - inside - span.core
        assert cut == (0 if span is spans[-1] else options["margin"])
        assert (span.weights > 0).all()
        assert (span.weights <= 1).all()
        total[span.begin : span.begin + span.core] += span.weights
        finals += range(span.begin, span.begin + span.final)
    torch.testing.assert_close(total, torch.ones(length))
    # What is final is all there is, in order, and nothing that a later tile uses.
    assert finals == list(range(length))
    for span, following in zip(spans, spans[1:], strict=False):
        assert span.start + span.length - following.start >= options["overlap"]
        assert span.begin + span.final == following.begin
        # The last ends with the image, not with what pads it to a multiple.
        assert 0 <= span.length - following.length < options["multiple"]
    assert spans[-1].start + spans[-1].length == length


@given(tilings())
def test_no_tile_could_be_left_out(tiling):
    length, options = tiling
    count, overlap = len(tile_spans(length, **options)), options["overlap"]
    padded = round_up(length, options["multiple"])
    # With one tile fewer the image would not be covered with this overlap.
    assert count == 1 or (count - 1) * (options["size"] - overlap) + overlap < padded


def test_tiles_worked_by_hand():
    def places(length, **options):
        return [(span.start, span.length) for span in tile_spans(length, **options)]

    plain = {"size": 4, "overlap": 1, "margin": 0, "multiple": 1}
    assert places(10, **plain) == [(0, 4), (3, 4), (6, 4)]
    assert places(11, **plain) == [(0, 4), (2, 4), (4, 4), (7, 4)]
    assert places(9, size=10, overlap=9, margin=2, multiple=1) == [(0, 9)]
    assert places(99, size=64, overlap=16, margin=0, multiple=16) == [(0, 64), (48, 51)]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_that_leaves_no_step_is_refused(overlap):
    with pytest.raises(ValueError, match=f"overlap {overlap} must be from 0 to below .* 8"):
        tile_spans(20, size=8, overlap=overlap, margin=0, multiple=1)


def test_weights_fall_linearly_over_what_is_shared():
    first, second = tile_spans(9, size=6, overlap=3, margin=0, multiple=1)
    torch.testing.assert_close(first.weights, torch.tensor([1, 1, 1, 0.75, 0.5, 0.25]))
    torch.testing.assert_close(second.weights, torch.tensor([0.25, 0.5, 0.75, 1, 1, 1]))
    first, second = tile_spans(9, size=6, overlap=3, margin=1, multiple=1)
    torch.testing.assert_close(first.weights, torch.tensor([1, 1, 1, 1, 0.5]))
    torch.testing.assert_close(second.weights, torch.tensor([0.5, 1, 1, 1, 1]))
