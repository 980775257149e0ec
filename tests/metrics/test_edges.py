import numpy as np
import pytest

from truemask.errors import UsageError
from truemask.metrics.edges import EdgeCounts, average_precision, best_f, edge_counts, thresholds


def random_counts(images=7, levels=9, seed=0):
    """Counts as of real maps: fewer found pixels at each higher threshold."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(200, 400, (images, 1)).repeat(levels, 1)
    found = np.sort(rng.integers(0, 500, (images, levels)), 1)[:, ::-1]
    matched = (found * np.linspace(0.3, 0.95, levels) * rng.random((images, levels))).astype(int)
    return np.stack([np.minimum(matched, drawn), drawn, matched, found], -1)


def f_measure(r, p):
    return 2 * p * r / (p + r + ((p + r) == 0))


def plain_scores(counts, levels):
    """The published `collect_eval_bdry.m`, line by line."""

    def curve(c):
        return c[:, 0] / (c[:, 1] + (c[:, 1] == 0)), c[:, 2] / (c[:, 3] + (c[:, 3] == 0))

    summed = np.zeros(4)
    for image in counts:
        r, p = curve(image)
        f = [f_measure(a, b) for a, b in zip(r, p, strict=True)]
        summed += image[f.index(max(f))]
    r, p = curve(counts.sum(0))
    best = (f_measure(r[0], p[0]), r[0], p[0], levels[0])
    for i in range(1, len(levels)):
        for d in np.linspace(0, 1, 100):
            a, b = r[i] * d + r[i - 1] * (1 - d), p[i] * d + p[i - 1] * (1 - d)
            if f_measure(a, b) > best[0]:
                best = (f_measure(a, b), a, b, levels[i] * d + levels[i - 1] * (1 - d))
    known = {}
    for a, b in zip(r, p, strict=True):
        known.setdefault(a, b)
    points = sorted(known.items())
    area = 0.0
    for at in np.arange(101) * 0.01:
        for (r0, p0), (r1, p1) in zip(points, points[1:], strict=False):
            if r0 <= at <= r1:
                area += 0.01 * (p0 + (p1 - p0) * (at - r0) / (r1 - r0))
                break
    ois = f_measure(summed[0] / summed[1], summed[2] / summed[3])
    return best, ois, area


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_the_published_code_line_by_line(seed):
    counts = random_counts(seed=seed)
    result = EdgeCounts(names=list("abcdefg"), counts=counts).result(resamples=0)
    best, ois, area = plain_scores(counts, thresholds(9))
    assert result.ods == pytest.approx(best[0], abs=1e-12)
    assert result.ods_recall == pytest.approx(best[1], abs=1e-9)
    assert result.ods_precision == pytest.approx(best[2], abs=1e-9)
    assert result.ods_threshold == pytest.approx(best[3], abs=1e-9)
    assert result.ois == pytest.approx(ois, abs=1e-12)
    assert result.ap == pytest.approx(area, abs=1e-9)
    assert result.intervals == {}


def test_thresholds_are_the_benchmarks():
    np.testing.assert_allclose(thresholds(), np.arange(1, 100) / 100)
    np.testing.assert_allclose(thresholds(5), np.arange(1, 6) / 6)
    with pytest.raises(UsageError, match="at least one"):
        thresholds(0)


def test_a_line_moved_is_right_within_the_tolerance_and_wrong_beyond():
    # The diagonal is 50, so the tolerance of 0.06 is 3 pixels.
    truth = np.zeros((1, 30, 40), bool)
    truth[0, 5:25, 12] = True
    for moved, right in ((0, 1), (3, 1), (4, 0)):
        probability = np.zeros((30, 40))
        probability[5:25, 12 + moved] = 0.7
        counts = edge_counts(probability, truth, count=9, tolerance=0.06)
        shown = counts[:6]
        assert (shown == [20 * right, 20, 20 * right, 20]).all()
        assert (counts[7:] == [0, 20, 0, 0]).all()
        result = EdgeCounts(names=["a"], counts=counts[None], tolerance=0.06).result()
        assert (result.ods, result.ois) == (right, right)


def test_recall_counts_every_annotator_and_precision_each_pixel_once():
    drawings = np.zeros((3, 20, 20), bool)
    drawings[0, 4, 2:18] = True
    drawings[1, 4, 2:10] = True
    drawings[2, 15, 2:18] = True
    probability = np.zeros((20, 20))
    probability[4, 2:18] = 1
    counts = edge_counts(probability, drawings, count=3)
    assert counts.tolist() == [[16 + 8, 16 + 8 + 16, 16, 16]] * 3


def test_thick_lines_are_thinned_unless_one_says_otherwise():
    probability, truth = np.zeros((30, 30)), np.zeros((1, 30, 30), bool)
    probability[10:15, 4:26] = 1
    truth[0, 12, 4:26] = True
    thin, thick = (edge_counts(probability, truth, count=1, thinned=t)[0] for t in (True, False))
    assert thin[3] <= 22
    assert thick[3] == 5 * 22


def test_merging_in_any_order_is_the_whole():
    counts, names = random_counts(), list("abcdefg")
    whole = EdgeCounts(names=names, counts=counts)
    first = EdgeCounts(names=names[:3], counts=counts[:3])
    second = EdgeCounts(names=names[3:], counts=counts[3:])
    for merged in (first.merge(second), second.merge(first)):
        assert merged.result(resamples=50) == whole.result(resamples=50)
    with pytest.raises(UsageError, match="each name once"):
        first.merge(first)
    with pytest.raises(UsageError, match="cannot be merged"):
        first.merge(EdgeCounts(names=["z"], counts=counts[:1], tolerance=0.01))


def test_intervals_hold_the_score_and_repeat():
    result = EdgeCounts(names=list("abcdefg"), counts=random_counts()).result(resamples=300)
    assert set(result.intervals) == {"ods", "ois", "ap"}
    for name, (low, high) in result.intervals.items():
        assert low <= getattr(result, name) <= high
        assert low < high
    again = EdgeCounts(names=list("abcdefg"), counts=random_counts()).result(resamples=300)
    assert again == result


def test_equal_images_have_no_uncertainty():
    counts = random_counts(images=1).repeat(6, 0)
    result = EdgeCounts(names=list("abcdef"), counts=counts).result(resamples=20)
    for name, interval in result.intervals.items():
        assert interval == pytest.approx((getattr(result, name),) * 2, abs=1e-12)


def test_a_curve_of_one_recall_has_no_area():
    assert average_precision(np.array([[5, 10, 5, 10]] * 3)) == 0
    assert best_f(np.zeros((3, 4)), thresholds(3))[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probability": np.full((4, 5), 1.5)}, "from 0 to 1"),
        ({"probability": np.full((4, 5), np.nan)}, "from 0 to 1"),
        ({"probability": np.zeros((4, 5), np.uint8)}, "255"),
        ({"probability": np.zeros((5, 4))}, r"must be \(H, W\)"),
        ({"drawings": np.zeros((0, 4, 5), bool)}, "at least one annotator"),
        ({"drawings": np.zeros((1, 4, 5))}, "must be bool"),
        ({"tolerance": 0.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_counted_is_refused(change, said):
    given = {"probability": np.zeros((4, 5)), "drawings": np.zeros((1, 4, 5), bool), **change}
    with pytest.raises(UsageError, match=said):
        edge_counts(given.pop("probability"), given.pop("drawings"), **given)
