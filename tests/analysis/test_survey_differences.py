"""Shares of images against each other: held against dealing at random; false alarms."""

import math

import numpy as np
import pytest

from truemask.analysis.survey_counts import Tally
from truemask.analysis.survey_differences import FEWEST, difference, holm

NAMES = ("a", "b", "c")


def tally_of(rows):
    total = Tally.empty(len(NAMES))
    for row in rows:
        total.add(Tally.of(np.asarray(row, np.int64)))
    return total


def images(random, count, *, shift=0.0):
    """Pixels of three classes and ignored ones in images of different size."""
    sizes = random.integers(500, 5000, count)
    shares = random.dirichlet((4 + shift, 2, 0.3), count)
    classes = (shares * sizes[:, None]).astype(np.int64)
    return np.column_stack((classes, random.integers(0, 900, count)))


def held(one, other):
    return difference(tally_of(one), tally_of(other), names=NAMES, one_name="x", other_name="y")


def test_the_deviations_are_those_of_dealing_at_random():
    random = np.random.default_rng(0)
    rows = images(random, 60)
    cut = 22
    found = {one.name: one for one in held(rows[:cut], rows[cut:]).classes}
    labelled = rows[:, :3].sum(1)
    for k, name in enumerate(NAMES):
        share = rows[:, k].sum() / labelled.sum()
        excess = rows[:, k] - share * labelled
        deals = np.array([random.permutation(excess) for _ in range(20_000)])
        dealt = deals[:, :cut].mean(1) - deals[:, cut:].mean(1)
        seen = excess[:cut].mean() - excess[cut:].mean()
        assert found[name].z == pytest.approx(seen / dealt.std(), rel=0.03, abs=0.01)
        assert found[name].p == pytest.approx((np.abs(dealt) >= abs(seen)).mean(), abs=0.03)
        assert found[name].share == rows[:cut, k].sum() / labelled[:cut].sum()


def test_swapping_the_sides_changes_the_sign_only():
    random = np.random.default_rng(1)
    one, other = images(random, 30), images(random, 50)
    there, back = held(one, other), held(other, one)
    for a in there.classes:
        b = next(b for b in back.classes if b.name == a.name)
        assert (a.z, a.p, a.share) == (-b.z, b.p, b.other_share)


@pytest.mark.parametrize("sides", [(FEWEST, 40), (30, 90), (200, 60)])
def test_parts_dealt_at_random_seldom_differ(sides):
    random = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        rows = images(random, sum(sides))
        wrong += any(one.differs for one in held(rows[: sides[0]], rows[sides[0] :]).classes)
    # Of 400, 5 % are 20; three standard deviations more are 33.
    assert wrong <= 33


def test_a_real_difference_is_seen_and_pixels_alone_do_not_make_one():
    random = np.random.default_rng(3)
    one, other = images(random, 80), images(random, 80, shift=6.0)
    assert {found.name for found in held(one, other).classes if found.differs} >= {"a"}
    # A hundred times the pixels of the same images are no more evidence.
    same = held(one[:40], one[40:])
    large = held(one[:40] * 100, one[40:] * 100)
    assert [a.z for a in same.classes] == pytest.approx([a.z for a in large.classes])


def test_few_images_and_absent_classes_are_not_judged():
    random = np.random.default_rng(4)
    rows = images(random, 30)
    rows[:, 2] = 0
    assert held(rows[: FEWEST - 1], rows[FEWEST:]).classes == []
    assert {one.name for one in held(rows[:15], rows[15:]).classes} == {"a", "b"}
    same = np.tile(np.array([[10, 20, 30, 0]]), (30, 1))
    assert [one.z for one in held(same[:15], same[15:]).classes] == [0.0, 0.0, 0.0]


def test_large_images_do_not_overflow():
    rows = np.tile(np.array([[10**9, 10**9, 3 * 10**9, 5]]), (40, 1))
    rows[::3, 0] //= 2
    found = held(rows[:15], rows[15:])
    small = held(rows[:15] // 10**6, rows[15:] // 10**6)
    expected = {one.name: one.z for one in small.classes}
    assert {one.name: one.z for one in found.classes} == pytest.approx(expected)
    assert all(math.isfinite(one.z) and one.z != 0 for one in found.classes)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never falling.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
