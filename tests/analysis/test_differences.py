"""How sure a difference is, held against brute force, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from truemask.analysis.comparison import Difference
from truemask.analysis.differences import (
    Doubt,
    difference,
    doubt,
    holm,
    mean_doubt,
    seeds_difference,
)
from truemask.metrics.confusion import Margins, headline, iou, margins


def score(counts: Margins) -> np.ndarray:
    return headline(iou(counts))


def counted(rng: np.random.Generator, images: int, classes: int, *, hits: float) -> Margins:
    matrices = rng.integers(0, 50, (images, classes, classes))
    truth = rng.integers(100, 2000, (images, classes))
    matrices[:, range(classes), range(classes)] = truth * hits
    return margins(matrices)


def doubted(counts: Margins) -> Doubt:
    images = len(counts.hits)
    found = doubt(counts, score, places=np.arange(images), images=images)
    assert found is not None
    return found


@pytest.mark.parametrize("classes", [2, 4])
def test_the_variance_is_the_jackknife_s(classes: int) -> None:
    rng = np.random.default_rng(0)
    one, two = (counted(rng, 12, classes, hits=share) for share in (0.7, 0.8))

    def gap(rows: np.ndarray) -> float:
        values = [float(score(Margins(*(part[rows].sum(0) for part in c)))) for c in (one, two)]
        return values[1] - values[0]

    everything = np.arange(12)
    without = [gap(np.delete(everything, i)) for i in everything]
    variance = 11 / 12 * np.sum((np.array(without) - np.mean(without)) ** 2)
    changes = doubted(two).changes - doubted(one).changes
    assert np.sum(changes**2) == pytest.approx(variance, rel=1e-9)
    found = difference([doubted(one)], [doubted(two)], images=12)
    assert found.value == pytest.approx(gap(everything))
    assert np.mean(found.interval) == pytest.approx(found.value)


def test_the_interval_of_a_mean_is_the_paired_t_interval_where_all_images_weigh_alike() -> None:
    signs = np.tile([1.0, -1.0], 10)
    one, two = np.linspace(0, 1, 20), np.linspace(0, 1, 20) + 0.3 + 0.1 * signs
    place = np.arange(20)
    pair = [mean_doubt(values, places=place, images=20) for values in (one, two)]
    found = difference(pair[:1], pair[1:], images=20)
    expected = stats.ttest_rel(two, one).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(expected), rel=1e-6)
    lower = difference(pair[:1], pair[1:], images=20, lower_is_better=True)
    assert lower.interval == pytest.approx((-expected.high, -expected.low), rel=1e-6)


def test_one_image_that_decides_all_is_no_evidence() -> None:
    place = np.arange(200)
    same = mean_doubt(np.zeros(200), places=place, images=200)
    one = mean_doubt(np.eye(1, 200)[0], places=place, images=200)
    found = difference([same], [one], images=200)
    assert found.interval[0] < 0 < found.interval[1]
    assert found.p > 0.3


def test_p_is_the_level_at_which_the_interval_reaches_0() -> None:
    rng = np.random.default_rng(1)
    place = np.arange(40)
    zero = mean_doubt(np.zeros(40), places=place, images=40)
    noise = rng.normal(0, 1, 40)
    noise -= noise.mean()
    half = difference([zero], [mean_doubt(noise, places=place, images=40)], images=40).interval[1]
    edge = difference([zero], [mean_doubt(noise + half, places=place, images=40)], images=40)
    assert edge.interval[0] == pytest.approx(0, abs=1e-12)
    assert edge.p == pytest.approx(0.05, rel=1e-6)


def test_seeds_alone_give_welch_s_interval() -> None:
    rng = np.random.default_rng(0)
    for sizes in ((2, 2), (3, 5), (10, 4), (30, 40)):
        one, two = (list(rng.normal(0, scale, n)) for n, scale in zip(sizes, (1, 3), strict=True))
        expected = stats.ttest_ind(two, one, equal_var=False)
        found = seeds_difference(one, two)
        assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
        assert found.over == ("seeds",)
    assert seeds_difference([1.0], [2.0, 3.0]).interval is None


def test_holm_s_correction() -> None:
    ps = [0.04, 0.001, 0.3, 0.012, 0.02]
    given = [Difference(value=1.0, interval=(0.0, 2.0), p=p) for p in ps]
    # By hand: 0.001 <= 0.05 / 5, 0.012 <= 0.05 / 4, but 0.02 > 0.05 / 3.
    assert [one.certain for one in holm(given)] == [False, True, False, True, False]
    assert holm([None, given[0]])[1].certain
    assert holm([]) == []
    none = Difference(value=1.0, interval=None)
    assert holm([none]) == [none]


def test_what_is_needed_shows_the_difference_four_times_in_five() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(0, 1, 50)
    base = (base - base.mean()) / base.std() + 0.1
    place = np.arange(50)
    zero = mean_doubt(np.zeros(50), places=place, images=50)
    found = difference([zero], [mean_doubt(base, places=place, images=50)], images=50)
    assert not found.certain
    needed = found.needed.images
    draws = rng.normal(0.1, 50**0.5 / 49**0.5, (4000, needed))
    told = np.abs(draws.mean(1)) > 1.96 * draws.std(1, ddof=1) / needed**0.5
    assert 0.77 < told.mean() < 0.83
    assert needed % 10 == 0  # a guess of two digits


def test_seeds_that_scatter_are_needed_rather_than_images() -> None:
    place = np.arange(100)
    changes = np.full(100, 1e-5)
    runs = [
        [Doubt(score=s, changes=changes * sign) for s in scores]
        for scores, sign in (((0.70, 0.80), 1), ((0.72, 0.81), -1))
    ]
    found = difference(*runs, images=len(place))
    assert found.over == ("images", "seeds")
    assert found.needed.images == 100
    assert found.needed.seeds > 2


@pytest.mark.parametrize(("seeds", "shared"), [(1, 30), (3, 30), (1, 0), (1, 15), (3, 15)])
def test_intervals_cover_the_true_difference(seeds: int, shared: int) -> None:
    """Means of 30 heavy-tailed images each, some the same for both; the truth is known exactly."""
    rng = np.random.default_rng([seeds, shared])
    covered = []
    total = 60 - shared
    places = np.arange(30), np.arange(total - 30, total)
    for _ in range(400):
        hard = rng.standard_t(3, total)
        groups = []
        for shift, place in zip((0.0, 0.4), places, strict=True):
            own = rng.normal(shift, 0.5 if seeds > 1 else 0.0, seeds)
            scores = [hard[place] + start + rng.standard_t(4, 30) for start in own]
            groups.append([mean_doubt(one, places=place, images=total) for one in scores])
        low, high = difference(*groups, images=total).interval
        covered.append(low <= 0.4 <= high)
    assert 0.92 < np.mean(covered) < 0.985
