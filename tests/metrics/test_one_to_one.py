import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from truemask.metrics.matching import disc, match, match_words
from truemask.metrics.thinning import pack, unpack


def most_pairs(first, second, radius):
    """The size of the largest matching, by SciPy's assignment over all pairs."""
    a, b = np.argwhere(first), np.argwhere(second)
    if len(a) == 0 or len(b) == 0:
        return 0
    near = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius * radius
    rows, columns = linear_sum_assignment(near, maximize=True)
    return int(near[rows, columns].sum())


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("radius", [1.0, 2.3, 4.4])
@pytest.mark.parametrize("seed", range(4))
def test_as_many_pairs_as_an_assignment_over_all_finds(seed, radius, density):
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 30, 22)) < density
    assert match(first, second, radius=radius) == most_pairs(first, second, radius)


@pytest.mark.parametrize("seed", range(3))
def test_many_maps_and_annotators_at_once(seed):
    rng = np.random.default_rng(seed)
    values, levels = rng.random((26, 33)), np.linspace(0.3, 0.99, 80)
    drawings = rng.random((3, 26, 33)) < np.array([0.05, 0.1, 0.2])[:, None, None]
    drawings[1, :, 10:] = False
    words = pack(values, levels.tolist())
    matched = match_words(words, drawings, radius=3, maps=80)
    assert matched.drawn.shape == (80, 3)
    for index in range(0, 80, 11):
        pairs = [most_pairs(unpack(words, index), drawing, 3) for drawing in drawings]
        assert matched.drawn[index].tolist() == pairs
        # A pixel may have a partner with each annotator: no fewer than with one, no more than all.
        assert max(pairs) <= matched.found[index] <= sum(pairs)


def test_long_chains_of_exchanges():
    # Each pixel of the first line but one fits two of the second: nearest first leaves the ends
    # without a partner, and only exchanges along the whole line give everybody one.
    for length in (5, 40, 200):
        first, second = np.zeros((2, 1, 6 * length + 10), bool)
        first[0, 5 + 4 * np.arange(length)] = True
        second[0, 5 + 4 * np.arange(length) + 3] = True
        second[0, 5 + 4 * (length - 1) + 3] = False
        second[0, 2] = True
        assert match(first, second, radius=3) == length
        assert match(second, first, radius=3) == length


@pytest.mark.parametrize("seed", range(5))
def test_turning_mirroring_and_swapping_change_nothing(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 40, 28)) < 0.15
    pairs = match(first, second, radius=2.9)
    assert match(second, first, radius=2.9) == pairs
    assert match(first.T, second.T, radius=2.9) == pairs
    assert match(first[::-1], second[::-1], radius=2.9) == pairs


def test_a_shifted_line_is_found_within_the_tolerance_only():
    first, second = np.zeros((2, 40, 40), bool)
    first[10, 5:35] = True
    second[14, 5:35] = True
    assert match(first, second, radius=4) == 30
    assert match(first, second, radius=3.99) == 0


def test_nothing_has_no_partners():
    none, some = np.zeros((2, 6, 7), bool)
    some[2, 3] = True
    assert match(none, some, radius=3) == match(some, none, radius=3) == 0
    words = pack(np.ones((6, 7)), [0.5])
    drawings = np.stack([none, some, none])
    assert match_words(words, drawings, radius=2, maps=1).drawn.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("radius", [0.5, 1, 1.5, 4.33])
def test_disc(radius):
    steps = range(-5, 6)
    inside = {(y, x) for y in steps for x in steps if y * y + x * x <= radius * radius}
    offsets = disc(radius)
    assert {tuple(o) for o in offsets.tolist()} == inside
    assert (np.diff((offsets**2).sum(1)) >= 0).all()
