import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from truemask.metrics import bootstrap
from truemask.metrics.bootstrap import percentile_intervals, resampled_margins, resampled_sums
from truemask.metrics.confusion import headline, iou, margins, pixel_accuracy


def random_matrices(*, images, classes, seed=0):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(0.5, 4, size=(images, 1, 1))
    expected = 20 * (1 + quality * 5 * np.eye(classes))
    return rng.poisson(expected).astype(np.int64)


def interval(scores):
    return percentile_intervals({"score": scores})["score"]


def test_two_images_worked_by_hand():
    # Two images give the draws AA, AB or BA, BB with the chances 1/4, 1/2, 1/4. So the middle 95 %
    # reaches from the worse image alone to the better one alone.
    matrices = np.array([[[6, 4], [0, 0]], [[9, 1], [0, 0]]])
    drawn = resampled_margins(matrices, resamples=4000, seed=0)
    accuracy = pixel_accuracy(drawn)
    values, counts = np.unique(accuracy, return_counts=True)
    assert values.tolist() == [0.6, 0.75, 0.9]
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)
    assert interval(accuracy) == (0.6, 0.9)


def test_a_resample_is_whole_images_as_many_as_there_are():
    # Powers of 4 tell from the sum how often each of three images was drawn.
    sums = resampled_sums(np.array([[1], [4], [16]]), resamples=500, seed=0)[:, 0].astype(int)
    copies = np.stack([sums // base % 4 for base in (1, 4, 16)])
    assert (copies.sum(0) == 3).all()
    assert len(np.unique(sums)) == 10, "three images can be drawn in ten ways"


def test_intervals_equal_those_of_scipy():
    matrices = random_matrices(images=40, classes=4)

    def mean_iou(picked):
        return headline(iou(matrices[picked].sum(-3)))

    reference = scipy.stats.bootstrap(
        (np.arange(40),), mean_iou, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    ours = interval(headline(iou(resampled_margins(matrices, resamples=4000, seed=0))))
    # Both are random: their ends may differ by a small part of the interval's width.
    width = reference.high - reference.low
    np.testing.assert_allclose(ours, reference, atol=0.06 * width)


def test_the_width_of_a_mean_is_its_normal_approximation():
    values = np.random.default_rng(0).normal(size=400)
    low, high = interval(resampled_sums(values[:, None], resamples=8000, seed=0)[:, 0] / 400)
    expected = 2 * 1.96 * values.std() / np.sqrt(400)
    assert high - low == pytest.approx(expected, rel=0.03)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.03 * expected)


def test_the_interval_covers_the_true_score_as_often_as_it_says():
    rng = np.random.default_rng(0)
    images, pixels, trials = 60, 1000, 400
    # The foreground's IoU of an endless dataset: sizes and qualities vary from image to image.
    covered = 0
    for seed in range(trials):
        truth = rng.integers(50, 500, size=images)
        hits = rng.binomial(truth, rng.beta(8, 2, size=images))
        invented = rng.binomial(pixels - truth, 0.02)
        rows = [[pixels - truth - invented, invented], [truth - hits, hits]]
        matrices = np.array(rows).transpose(2, 0, 1)
        scores = iou(resampled_margins(matrices, resamples=500, seed=seed))[:, 1]
        low, high = interval(scores)
        mean_truth = (50 + 499) / 2
        expected = 0.8 * mean_truth / (mean_truth + 0.02 * (pixels - mean_truth))
        covered += low <= expected <= high
    # 400 trials of 95 % have a standard deviation of 1.1 %; with 60 images the percentile interval
    # covers a little less than it says.
    assert 0.905 <= covered / trials <= 0.98


@given(st.integers(2, 30), st.integers(2, 5), st.integers(0, 10))
def test_resampled_margins_are_exact_sums_of_the_drawn_images(images, classes, seed):
    matrices = random_matrices(images=images, classes=classes, seed=seed) << 30
    drawn = resampled_margins(matrices, resamples=5, seed=seed)
    copies = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=5)
    for r in range(5):
        expected = margins(np.repeat(matrices, copies[r], axis=0).sum(0))
        for ours, theirs in zip(drawn, expected, strict=True):
            np.testing.assert_array_equal(ours[r], theirs)


def test_sums_that_float64_cannot_hold_are_refused():
    matrices = np.full((2, 2, 2), 1 << 51)
    with pytest.raises(AssertionError, match="too many pixels"):
        resampled_margins(matrices, resamples=2, seed=0)


def test_the_seed_decides_and_seed_zero_is_a_seed():
    matrices = random_matrices(images=10, classes=3)

    def hits(seed):
        return resampled_margins(matrices, resamples=20, seed=seed).hits

    np.testing.assert_array_equal(hits(0), hits(0))
    assert not np.array_equal(hits(0), hits(1))


def test_working_in_chunks_changes_nothing(monkeypatch):
    matrices = random_matrices(images=13, classes=3)
    whole = resampled_margins(matrices, resamples=50, seed=3)
    monkeypatch.setattr(bootstrap, "_CHUNK", 13 * 7)
    chunked = resampled_margins(matrices, resamples=50, seed=3)
    np.testing.assert_array_equal(np.stack(whole), np.stack(chunked))
    monkeypatch.setattr(bootstrap, "_CHUNK", 1)
    np.testing.assert_array_equal(
        np.stack(whole), np.stack(resampled_margins(matrices, resamples=50, seed=3))
    )


def test_resamples_without_the_class_do_not_count():
    # The class occurs in one image of three, with a perfect score: 8 of 27 resamples lack it.
    matrices = np.zeros((3, 3, 3), dtype=np.int64)
    matrices[:, 0, 0] = 10
    matrices[0, 1, 1] = 10
    scores = iou(resampled_margins(matrices, resamples=3000, seed=0))
    assert np.isnan(scores[:, 1]).mean() == pytest.approx(8 / 27, abs=0.03)
    intervals = percentile_intervals({str(k): scores[:, k] for k in range(3)})
    assert intervals == {"0": (1.0, 1.0), "1": (1.0, 1.0)}


def test_the_ends_are_percentiles():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert percentile_intervals({"none": np.array([])}) == {}


def test_two_thousand_resamples_of_500_images_of_19_classes_take_under_two_seconds():
    matrices = random_matrices(images=500, classes=19)
    start = time.process_time()
    scores = iou(resampled_margins(matrices, resamples=2000, seed=0))
    percentile_intervals({str(k): scores[:, k] for k in range(19)})
    assert time.process_time() - start < 2
