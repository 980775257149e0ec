"""Connected regions and borders, against SciPy's and NumPy's."""

import numpy as np
import pytest
from scipy import ndimage

from truemask.regions import Runs


@pytest.mark.parametrize("seed", range(60))
def test_regions_are_those_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 40, 2)
    mask = random.integers(0, random.integers(1, 5), (height, width)).astype(np.uint8)
    if seed % 3 == 0:  # larger regions
        mask = np.kron(mask, np.ones((3, 4), np.uint8))
    expected, count = np.zeros(mask.shape, np.int64), 0
    for value in np.unique(mask):
        labels, found = ndimage.label(mask == value)
        expected[labels > 0] = labels[labels > 0] + count
        count += found
    regions = Runs.of(mask).numbered()
    pairs = np.unique(np.stack([regions.ravel(), expected.ravel()], 1), axis=0)
    assert len(pairs) == count == regions.max() + 1
    values, areas = Runs.of(mask).regions()
    assert areas.tolist() == np.bincount(regions.ravel()).tolist()
    assert [np.unique(mask[regions == k]).tolist() for k in range(count)] == values[
        :, None
    ].tolist()


@pytest.mark.parametrize("seed", range(20))
def test_borders_are_pixels_beside_another_value(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.integers(0, 3, random.integers(1, 20, 2))
    padded = np.pad(mask, 1, mode="edge")
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    expected = np.any([side != mask for side in sides], axis=0)
    assert Runs.of(mask).values_at_borders().tolist() == mask[expected].tolist()
    assert Runs.of(mask.T).values_at_borders().tolist() == mask.T[expected.T].tolist()
