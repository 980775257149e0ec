import numpy as np
import pytest

from truemask.metrics.thinning import pack, thin, thin_words, unpack


def plain_thin(mask):
    """The rule of Lam, Lee and Suen written down pixel by pixel."""
    image = np.pad(mask, 1)
    while True:
        before = image.copy()
        for second in (False, True):
            remove = []
            for y, x in np.argwhere(image):
                east = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
                n = [None, *(bool(image[y + v, x + u]) for v, u in east)]
                n.append(n[1])
                crossings = sum(
                    not n[2 * i - 1] and (n[2 * i] or n[2 * i + 1]) for i in range(1, 5)
                )
                pairs = min(
                    sum(n[2 * k - 1] or n[2 * k] for k in range(1, 5)),
                    sum(n[2 * k] or n[2 * k + 1] for k in range(1, 5)),
                )
                if second:
                    side = (n[6] or n[7] or not n[4]) and n[5]
                else:
                    side = (n[2] or n[3] or not n[8]) and n[1]
                if crossings == 1 and pairs in (2, 3) and not side:
                    remove.append((y, x))
            for y, x in remove:
                image[y, x] = False
        if (image == before).all():
            return image[1:-1, 1:-1]


def components(mask, diagonal):
    """How many connected parts."""
    left, found = {tuple(p) for p in np.argwhere(mask)}, 0
    while left:
        found += 1
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            for v in (-1, 0, 1):
                for u in (-1, 0, 1):
                    near = (y + v, x + u)
                    if (diagonal or v == 0 or u == 0) and near in left:
                        left.remove(near)
                        stack.append(near)
    return found


def blobs(seed, shape=(18, 23), smooth=1):
    rng = np.random.default_rng(seed)
    values = rng.random(shape)
    for _ in range(smooth):
        values = sum(np.roll(values, (v, u), (0, 1)) for v in (-1, 0, 1) for u in (-1, 0, 1)) / 9
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("smooth", [0, 1, 3])
def test_each_of_many_maps_is_thinned_as_the_paper_says(seed, smooth):
    values = blobs(seed, smooth=smooth)
    levels = np.linspace(0.05, 0.95, 70).tolist()
    words = pack(values, levels)
    thin_words(words)
    for index in range(0, 70, 23):
        expected = plain_thin(values >= levels[index])
        np.testing.assert_array_equal(unpack(words, index), expected)
        np.testing.assert_array_equal(thin(values >= levels[index]), expected)


@pytest.mark.parametrize("seed", range(6))
def test_no_part_and_no_hole_comes_or_goes_and_thin_stays_thin(seed):
    mask = blobs(seed, smooth=2) > 0.5
    lines = thin(mask)
    assert lines.sum() < mask.sum()
    assert not (lines & ~mask).any()
    assert components(lines, True) == components(mask, True)
    holes = components(~np.pad(mask, 1), False)
    assert components(~np.pad(lines, 1), False) == holes
    np.testing.assert_array_equal(thin(lines), lines)


def test_a_bar_becomes_a_line():
    mask = np.zeros((9, 20), bool)
    mask[3:6, 2:18] = True
    lines = thin(mask)
    assert lines[4, 4:16].all()
    assert (lines[:, 4:16].sum(0) == 1).all()


def test_packed_maps_are_the_comparisons():
    values = np.round(blobs(1) * 255) / 255
    levels = np.linspace(0.01, 0.99, 99).tolist()
    words = pack(values, levels)
    for index, level in enumerate(levels):
        np.testing.assert_array_equal(unpack(words, index), values >= level)
