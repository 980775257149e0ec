"""Connected regions, against SciPy's."""

import numpy as np
import pytest
from scipy import ndimage

from truemask.checks.mask_objects import connected_regions


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
    regions = connected_regions(mask)
    pairs = np.unique(np.stack([regions.ravel(), expected.ravel()], 1), axis=0)
    assert len(pairs) == count == regions.max() + 1
