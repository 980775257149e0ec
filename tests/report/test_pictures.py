"""Pictures in a page, decoded again and held against the arrays they were made of."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from truemask.labels import LabelMap
from truemask.report import pictures
from truemask.report.pictures import QUALITIES, Picture

BINARY = LabelMap(names=("background", "crack"), values={0: 0, 255: 1})
MANY = LabelMap(names=tuple("abcdefghijklm"), values={i: i for i in range(13)})


def decode(picture: Picture) -> np.ndarray:
    data = base64.b64decode(picture.uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_mask_has_exactly_the_colours_of_its_classes():
    ids = np.random.default_rng(0).integers(0, 13, (40, 60)).astype(np.uint8)
    ids[:5] = MANY.ignore_index
    np.testing.assert_array_equal(
        decode(pictures.mask(ids, MANY, QUALITIES[0])), MANY.colorize(ids)
    )


def test_a_large_picture_is_made_smaller_and_a_small_one_left():
    image = np.zeros((1000, 500, 3), np.uint8)
    assert decode(pictures.photo(image, QUALITIES[0])).shape == (640, 320, 3)
    assert decode(pictures.photo(image[:30, :20], QUALITIES[0])).shape == (30, 20, 3)
    assert decode(pictures.mask(image[..., 0], MANY, QUALITIES[-1])).shape == (120, 60, 3)


def test_a_photo_keeps_its_colours():
    image = np.full((64, 64, 3), (200, 120, 40), np.uint8)
    assert abs(decode(pictures.photo(image, QUALITIES[0])).astype(int) - image).max() < 12


def blocks(*columns: int) -> np.ndarray:
    """A mask of columns of 32 pixels."""
    return np.repeat(np.repeat([columns], 32, axis=1), 32, axis=0).astype(np.uint8)


@pytest.mark.parametrize(
    ("labels", "truth", "prediction", "expected"),
    [
        (BINARY, (0, 1, 1, 0, 255), (0, 1, 0, 1, 1), (None, "FOUND", "MISSED", "INVENTED", None)),
        (MANY, (0, 5, 5, 7, 255), (0, 5, 6, 0, 1), (None, None, "WRONG", "WRONG", None)),
    ],
)
def test_errors_are_painted_where_they_are_and_ignored_pixels_never(
    labels, truth, prediction, expected
):
    grey = np.full((32, 160, 3), 90, np.uint8)
    drawn = decode(pictures.errors(grey, blocks(*truth), blocks(*prediction), labels, QUALITIES[0]))
    for column, name in enumerate(expected):
        color = (173, 173, 173) if name is None else getattr(pictures, name)
        middle = drawn[16, column * 32 + 16].astype(int)
        assert abs(middle - color).max() < 25, f"column {column}"


def test_qualities_get_smaller():
    sides = [quality.long_side for quality in QUALITIES]
    assert sides == sorted(sides, reverse=True)
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3)).astype(np.uint8)
    sizes = [len(pictures.photo(noise, quality).uri) for quality in QUALITIES[::2]]
    assert sizes == sorted(sizes, reverse=True)
