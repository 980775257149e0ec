"""Pairs of files as samples, whole and at another size."""

import numpy as np
import pytest
import torch
from image_files import blocks, photo, save, save_palette
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from truemask.datasets.decoding import turn
from truemask.datasets.paired import PairedDataset, nearest
from truemask.datasets.pairing import Pair
from truemask.datasets.reading import read_image
from truemask.errors import UsageError
from truemask.images import RGB, resize_image
from truemask.labels import LabelMap, pack_rgb

LABELS = LabelMap(names=("sky", "road", "car"), values={7: 0, 11: 1, 40: 2, 0: 255})
COLORS = [(128, 64, 128), (0, 0, 142), (70, 130, 180)]


def dataset(folder, image, mask, *, labels=LABELS, ending="png", **options):
    """One pair; `mask` is what its file holds, or a path."""
    image_path = save(folder / f"image.{ending}", image)
    mask_path = save(folder / "mask.png", mask) if isinstance(mask, np.ndarray) else mask
    pair = Pair("train", "a/b", image_path, mask_path, {"weather": "rain"})
    return PairedDataset(pairs=(pair,), labels=labels, **options)


def random_mask(height=60, width=90):
    values = np.array([7, 11, 40, 0], dtype=np.uint8)
    return values[np.random.default_rng(0).integers(0, 4, (height, width))]


def test_a_sample_is_what_the_files_hold(tmp_path):
    data = dataset(tmp_path, photo(), blocks(7, 11, 40, 0))
    sample = data[0]
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), photo())
    assert np.array_equal(sample.mask.numpy(), blocks(0, 1, 2, 255))
    assert sample.mask.dtype == torch.uint8
    assert sample.name == "a/b"
    assert sample.attributes == {"weather": "rain"}


def test_what_is_known_without_opening_a_file(tmp_path):
    data = dataset(tmp_path, photo(), blocks(7, 11))
    assert data.sizes == ((24, 32),)
    for path in (data.pairs[0].image, data.pairs[0].mask):
        path.unlink()
    assert len(data) == 1
    assert data.names == ("a/b",)
    assert data.attributes == ({"weather": "rain"},)
    assert data.resized((5, 6)).sizes == ((5, 6),)


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("size", [(12, 10), (7, 90), (60, 90), (100, 120), (1, 1)])
def test_reading_at_a_size_is_reading_and_then_resizing(tmp_path, size, ending):
    # Pixels of a colour each would be another picture for a JPEG.
    image = np.array(Image.fromarray(photo(3, 4)).resize((90, 60), Image.Resampling.BICUBIC))
    data = dataset(tmp_path, image, random_mask(), ending=ending)
    small, whole = data.resized(size)[0], data[0]
    apart = small.image.float() - resize_image(whole.image, size).float()
    # A single pixel has no others to average its error with.
    assert apart.abs().mean() < ((4 if size == (1, 1) else 2) if ending == "jpg" else 1e-9)
    assert small.image.shape == (3, *size)
    assert np.array_equal(small.mask.numpy(), nearest(whole.mask.numpy(), size))


@pytest.mark.parametrize("stored", [(60, 90), (481, 321), (16, 16), (5, 7), (1, 1)])
@pytest.mark.parametrize("size", [(32, 32), (10, 90), (3, 4), (1, 1), (61, 500)])
def test_nearest_is_the_pixel_under_each_center(stored, size):
    pixels = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    rows = [(2 * y + 1) * stored[0] // (2 * size[0]) for y in range(size[0])]
    columns = [(2 * x + 1) * stored[1] // (2 * size[1]) for x in range(size[1])]
    assert np.array_equal(nearest(pixels, size), pixels[rows][:, columns])


@pytest.mark.parametrize(("stored", "size"), [((720, 1280), (128, 128)), ((10, 8), (30, 16))])
def test_nearest_is_what_torchvision_calls_exact(stored, size):
    pixels = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    wanted = resize(torch.from_numpy(pixels)[None], list(size), InterpolationMode.NEAREST_EXACT)
    assert np.array_equal(nearest(pixels, size), wanted[0].numpy())


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("size", [None, (12, 16), (24, 32), (24, 31)])
def test_a_mask_of_another_size_is_refused_or_fitted(tmp_path, ending, size):
    """Also where both come to the same size, or the mask has that already."""
    image = np.repeat(np.repeat(photo(), 4, 0), 4, 1)
    mask = random_mask(24, 32)
    data = dataset(tmp_path, image, mask, ending=ending, size=size)
    with pytest.raises(UsageError, match=r"image.* is 128x96 pixels, but its mask .*is 32x24: a"):
        data[0]
    fitted = dataset(tmp_path, image, mask, ending=ending, size=size, fit_masks=True)[0]
    raw = nearest(mask, size or (96, 128))
    assert np.array_equal(fitted.mask.numpy(), LABELS.encode(raw))
    assert fitted.image.shape[1:] == fitted.mask.shape


def turned(tmp_path, orientation, mask, **options):
    """A photo of 120x80 pixels with an EXIF orientation, and a mask."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = save(tmp_path / "image.png", photo(120, 80), exif=exif)
    pair = Pair(None, "x", image, save(tmp_path / "mask.png", mask))
    return PairedDataset(pairs=(pair,), labels=LABELS, **options)


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
@pytest.mark.parametrize("as_stored", [False, True])
@pytest.mark.parametrize("size", [None, (8, 8)])
def test_a_mask_lies_on_its_turned_image_however_it_was_drawn(
    tmp_path, orientation, as_stored, size
):
    raw = random_mask(120, 80)
    upright = turn(raw, orientation)
    wanted = LABELS.encode(upright if size is None else nearest(upright, size))
    for drawn in (raw, upright):
        data = turned(tmp_path, orientation, drawn, as_stored=as_stored, size=size)
        assert np.array_equal(data[0].mask, wanted)
        assert np.array_equal(data.mask(0), wanted)
        assert data[0].image.shape[1:] == data.sizes[0] == wanted.shape


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_where_the_size_does_not_tell_how_a_mask_was_drawn_the_dataset_does(tmp_path, orientation):
    raw = random_mask(120, 80)
    shown = turned(tmp_path, orientation, raw)
    assert np.array_equal(shown[0].mask, LABELS.encode(raw))
    stored = turned(tmp_path, orientation, raw, as_stored=True)
    assert np.array_equal(stored[0].mask, LABELS.encode(turn(raw, orientation)))
    assert torch.equal(stored[0].image, shown[0].image)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_mask_that_fits_neither_way_is_refused(tmp_path, orientation):
    data = turned(tmp_path, orientation, random_mask(120, 79), as_stored=True)
    said = "120x80" if orientation == 6 else "80x120"
    with pytest.raises(UsageError, match=rf"is {said} .* is 79x120: a mask must have the size"):
        data[0]


@pytest.mark.parametrize("size", [None, (6, 8)])
def test_a_value_in_no_class_names_the_file(tmp_path, size):
    data = dataset(tmp_path, photo(), blocks(7, 12), size=size)
    with pytest.raises(UsageError, match=r"mask\.png: value 12 \(.*stands in no class"):
        data[0]


@pytest.mark.parametrize("size", [(6, 8), (50, 64)])
def test_color_masks_are_never_mixed(tmp_path, size):
    ids = np.random.default_rng(1).integers(0, 3, (24, 32))
    pixels = np.array(COLORS, dtype=np.uint8)[ids]
    values = {int(pack_rgb(np.array(color, np.uint8))): i for i, color in enumerate(COLORS)}
    labels = LabelMap(names=("road", "car", "sky"), values=values, encoding="colors")
    data = dataset(tmp_path, photo(), pixels, labels=labels, size=size)
    assert np.array_equal(data[0].mask.numpy(), nearest(ids, size))
    palette = save_palette(tmp_path / "palette.png", ids, COLORS)
    data = dataset(tmp_path, photo(), palette, labels=labels, size=size)
    assert np.array_equal(data[0].mask.numpy(), nearest(ids, size))


def test_masks_can_be_read_otherwise(tmp_path):
    raw = random_mask(24, 32)
    file = tmp_path / "raw.npy"
    np.save(file, raw)
    data = dataset(tmp_path, photo(), file, read_raw=np.load)
    assert np.array_equal(data[0].mask.numpy(), LABELS.encode(raw))
    small = data.resized((6, 8))[0]
    assert np.array_equal(small.mask.numpy(), LABELS.encode(nearest(raw, (6, 8))))
    assert torch.equal(small.image, read_image(data.pairs[0].image, RGB, size=(6, 8)))
