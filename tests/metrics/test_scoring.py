"""From counts to results: which figures are sure enough for an interval."""

import numpy as np
import pytest

from truemask.metrics.scoring import score


def matrices(images: int, classes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(1, 50, (images, classes, classes)) + 100 * np.eye(classes, dtype=np.int64)


@pytest.mark.parametrize(("held", "sure"), [(4, False), (5, True)])
def test_a_class_of_few_images_has_no_interval(held, sure):
    counts = matrices(20, 3)
    counts[held:, 2] = counts[held:, :, 2] = 0
    result = score(counts, np.ones(20), names=("a", "b", "c"), resamples=100, seed=0)
    assert result.iou_per_class["c"] is not None
    assert ("iou_per_class.c" in result.intervals) == sure
    assert ("dice_per_class.c" in result.intervals) == sure
    assert {"iou", "iou_per_class.a", "iou_per_class.b", "loss"} <= set(result.intervals)


@pytest.mark.parametrize(("held", "sure"), [(4, False), (5, True)])
def test_of_two_classes_the_headline_is_the_foreground_s(held, sure):
    counts = matrices(20, 2)
    counts[held:, 1] = counts[held:, :, 1] = 0
    result = score(counts, np.ones(20), names=("ground", "crack"), resamples=100, seed=0)
    assert ("iou" in result.intervals) == sure
    assert ("dice" in result.intervals) == sure
    assert "pixel_accuracy" in result.intervals
