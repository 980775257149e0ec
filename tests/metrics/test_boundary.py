import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from truemask.errors import UsageError
from truemask.metrics.boundary import (
    MULTIPLES,
    BoundaryCounts,
    boundary,
    boundary_counts,
    boundary_scores,
)


def blocks(seed, shape=(33, 41), classes=4, ignored=0.0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, (shape[0] // 6 + 1, shape[1] // 6 + 1)).astype(np.uint8)
    ids = ids.repeat(6, 0).repeat(6, 1)[: shape[0], : shape[1]].copy()
    ids[rng.random(shape) < 0.03] = 0
    ids[rng.random(shape) < ignored] = 255
    return ids


def plain_boundary(ids, void, index):
    """Pixel by pixel, from the definition."""
    found = np.zeros(ids.shape, bool)
    for y, x in np.argwhere((ids == index) & ~void):
        for v, u in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            a, b = y + v, x + u
            if 0 <= a < ids.shape[0] and 0 <= b < ids.shape[1]:
                found[y, x] |= not void[a, b] and ids[a, b] != index
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ignored", [0.0, 0.05])
def test_counts_are_those_of_the_definition_and_a_distance_transform(seed, ignored):
    truth, prediction = blocks(seed, ignored=ignored), blocks(seed + 100)
    void, tolerances = truth == 255, (0.02, 0.05, 0.2)
    counts = boundary_counts(truth, prediction, num_classes=5, tolerances=tolerances)
    assert (counts[:, 4] == 0).all()
    for index in range(4):
        true, found = (plain_boundary(ids, void, index) for ids in (truth, prediction))
        for row, tolerance in zip(counts, tolerances, strict=True):
            reach = tolerance * np.hypot(*truth.shape)
            near_true = true & (distance_transform_edt(~found) <= reach)
            near_found = found & (distance_transform_edt(~true) <= reach)
            expected = [near_true.sum(), true.sum(), near_found.sum(), found.sum()]
            assert row[index].tolist() == expected


def test_an_edge_moved_is_right_within_the_tolerance_and_wrong_beyond():
    # The diagonal is 50, so a tolerance of 0.06 is 3 pixels.
    def halves(at):
        ids = np.zeros((30, 40), np.uint8)
        ids[:, at:] = 1
        return ids

    for moved, right in ((0, 1), (3, 1), (4, 0)):
        counts = boundary_counts(halves(12), halves(12 + moved), num_classes=2, tolerances=[0.06])
        assert counts.tolist() == [[[30 * right, 30, 30 * right, 30]] * 2]
        assert boundary_scores(counts)["f1"].tolist() == [[right, right]]


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_prediction_scores_one_and_ignored_pixels_change_nothing(seed):
    truth = blocks(seed, ignored=0.05)
    wild = truth.copy()
    wild[truth == 255] = np.random.default_rng(seed).integers(0, 4, (truth == 255).sum())
    perfect = boundary_counts(truth, np.where(truth == 255, 0, truth), num_classes=4)
    assert (boundary_scores(perfect)["f1"] == 1).all()
    np.testing.assert_array_equal(boundary_counts(truth, wild, num_classes=4), perfect)


def test_void_makes_no_boundary():
    truth = np.zeros((20, 20), np.uint8)
    truth[:, 9:11] = 255
    truth[:, 11:] = 1
    assert not boundary(truth, truth != 255).any()
    counts = boundary_counts(truth, (truth == 1).astype(np.uint8), num_classes=2)
    assert (counts == 0).all()
    assert np.isnan(boundary_scores(counts)["f1"]).all()


def test_mirrored_and_turned_images_count_alike():
    truth, prediction = blocks(1, ignored=0.02), blocks(2)
    counts = boundary_counts(truth, prediction, num_classes=4)
    for change in (np.fliplr, np.flipud, np.transpose):
        turned = boundary_counts(change(truth), change(prediction), num_classes=4)
        np.testing.assert_array_equal(turned, counts)
    order = np.array([2, 0, 3, 1])
    renamed = boundary_counts(
        np.where(truth == 255, 255, order[truth % 4]), order[prediction], num_classes=4
    )
    np.testing.assert_array_equal(renamed[:, order], counts)


def test_a_class_in_one_of_them_only_scores_zero():
    scores = boundary_scores(np.array([[0, 8, 0, 0], [0, 0, 0, 8], [0, 0, 0, 0], [4, 8, 2, 4]]))
    assert scores["f1"][:2].tolist() == [0, 0]
    assert np.isnan(scores["f1"][2])
    assert scores["f1"][3] == 0.5


def many(images=8, seed=0):
    tolerances = [0.03 * multiple for multiple in MULTIPLES]
    counts = np.array(
        [
            boundary_counts(blocks(i), blocks(i + 50), num_classes=4, tolerances=tolerances)
            for i in range(seed, seed + images)
        ]
    )
    names = [f"im{index}" for index in range(images)]
    return BoundaryCounts(names=names, classes="abcd", tolerance=0.03, counts=counts)


def test_results_intervals_and_curve():
    counts = many()
    result = counts.result(resamples=200)
    assert result == counts.result(resamples=200)
    pooled = boundary_scores(counts.counts[:, 2].sum(0))
    assert list(result.f1_per_class.values()) == pooled["f1"].tolist()
    assert result.f1 == pytest.approx(pooled["f1"].mean())
    for name in "abcd":
        low, high = result.intervals[f"f1_per_class.{name}"]
        assert low < result.f1_per_class[name] < high
        rising = [scores[name] for scores in result.curve.values()]
        assert rising == sorted(rising)
    assert result.curve["0.03"] == result.f1_per_class
    each = [boundary_scores(image[2])["f1"] for image in counts.counts]
    assert list(result.image_f1_per_class.values()) == pytest.approx(np.mean(each, 0))


def test_a_class_of_few_images_has_no_interval():
    counts = many()
    rare = counts.counts.copy()
    rare[4:, :, 1] = 0
    found = BoundaryCounts(names=counts.names, classes="abcd", tolerance=0.03, counts=rare)
    intervals = found.result(resamples=50).intervals
    assert {key.rpartition(".")[2] for key in intervals} == {"f1", "a", "c", "d"}


def test_merged_saved_and_read_again(tmp_path):
    counts = many()
    parts = [
        BoundaryCounts(
            names=counts.names[part], classes="abcd", tolerance=0.03, counts=counts.counts[part]
        )
        for part in (slice(5, 8), slice(0, 2), slice(2, 5))
    ]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert merged.result() == counts.result()
    merged.save(tmp_path / "counts.npz")
    assert BoundaryCounts.load(tmp_path / "counts.npz").result() == counts.result()
    with pytest.raises(UsageError, match="counts once"):
        parts[0].merge(parts[0])
    with pytest.raises(UsageError, match="do not merge"):
        parts[0].merge(BoundaryCounts(names=[], classes="ab", tolerance=0.03,
                                      counts=np.zeros((0, 5, 2, 4), np.int64)))  # fmt: skip
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    with pytest.raises(UsageError, match="no readable evaluation"):
        BoundaryCounts.load(tmp_path / "broken.npz")


def test_wrong_input_is_refused():
    with pytest.raises(UsageError, match="must both be"):
        boundary_counts(np.zeros((3, 4), int), np.zeros((4, 3), int), num_classes=2)
    with pytest.raises(UsageError, match="above 0 and below 1"):
        boundary_counts(
            np.zeros((3, 4), int), np.zeros((3, 4), int), num_classes=2, tolerances=[2.0]
        )
