"""Parts: complete, disjoint, seeded, independent of order, and reproducible."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truemask.datasets.pairing import Pair
from truemask.datasets.splitting import assign_pairs, split_pairs
from truemask.errors import UsageError

ROOT = Path("data")
SHARES = (0.7, 0.15, 0.15)


def pairs(count, part=None, prefix=""):
    names = [f"{prefix}{i:04d}" for i in range(count)]
    return [Pair(part, name, Path(f"{name}.jpg"), Path(f"{name}.png")) for name in names]


def names(parts):
    return {part: [pair.name for pair in members] for part, members in parts.items()}


@given(st.integers(3, 400), st.integers(0, 5))
def test_every_image_is_in_one_part(count, seed):
    parts, _ = split_pairs(pairs(count), ROOT, shares=SHARES, seed=seed)
    together = sorted(name for members in names(parts).values() for name in members)
    assert together == [pair.name for pair in pairs(count)]
    for part, share in zip(("train", "validation", "test"), SHARES, strict=True):
        assert abs(len(parts.get(part, [])) - share * count) <= 1
    assert parts["train"]
    assert parts["validation"]
    assert all(members == sorted(members) for members in names(parts).values())


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, [2, 1]), (4, [3, 1]), (5, [3, 1, 1]), (20, [14, 3, 3]), (100, [70, 15, 15])],
)
def test_sizes_of_the_parts(count, sizes):
    parts, notes = split_pairs(pairs(count), ROOT, shares=SHARES, seed=0)
    assert [len(members) for members in parts.values()] == sizes
    assert "seed 0" in notes[0]
    assert ("no test part" in " ".join(notes)) == (len(sizes) == 2)


def test_one_image_at_least_trains_and_one_validates():
    parts, _ = split_pairs(pairs(3), ROOT, shares=(0.1, 0.1, 0.8), seed=0)
    assert [len(members) for members in parts.values()] == [1, 1, 1]


def test_the_split_depends_on_names_and_seed_alone():
    first = split_pairs(pairs(50), ROOT, shares=SHARES, seed=3)[0]
    shuffled = pairs(50)
    random.Random(0).shuffle(shuffled)
    assert names(split_pairs(shuffled, ROOT, shares=SHARES, seed=3)[0]) == names(first)
    assert names(split_pairs(pairs(50), ROOT, shares=SHARES, seed=4)[0]) != names(first)


def test_a_new_image_moves_few_others():
    before = names(split_pairs(pairs(200), ROOT, shares=SHARES, seed=0)[0])
    after = names(split_pairs(pairs(201), ROOT, shares=SHARES, seed=0)[0])
    assert len({*before["train"]} - {*after["train"]}) <= 1


def test_shares_of_zero():
    parts, notes = split_pairs(pairs(2), ROOT, shares=(0.0, 0.0, 1.0), seed=0)
    assert {part: len(members) for part, members in parts.items()} == {"test": 2}
    assert "no train part" in notes[1]


def test_train_is_split_where_only_test_is_on_disk():
    members = pairs(20, "train", "a") + pairs(5, "test", "b")
    parts, notes = split_pairs(members, ROOT, shares=SHARES, seed=0)
    assert [len(part) for part in parts.values()] == [16, 4, 5]
    assert all(name.startswith("b") for name in names(parts)["test"])
    assert "a split of train/" in notes[0]


def test_train_alone_is_split_like_a_plain_folder():
    parts, _ = split_pairs(pairs(20, "train"), ROOT, shares=SHARES, seed=0)
    assert [len(part) for part in parts.values()] == [14, 3, 3]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_one_part(count):
    parts, notes = split_pairs(pairs(count), ROOT, shares=SHARES, seed=0)
    assert {part: len(members) for part, members in parts.items()} == {"train": count}
    assert len(notes) == 1
    assert "too few to be split" in notes[0]


@pytest.mark.parametrize(
    "shares", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (70.0, 15.0, 15.0)]
)
def test_shares_that_are_none(shares):
    with pytest.raises(UsageError, match="add up to 1"):
        split_pairs(pairs(9), ROOT, shares=shares, seed=0)


def test_shares_that_leave_nothing_to_train_on():
    members = pairs(9, "train", "a") + pairs(5, "test", "b")
    with pytest.raises(UsageError, match="nothing to train"):
        split_pairs(members, ROOT, shares=(0.0, 0.0, 1.0), seed=0)


def test_a_saved_split_is_taken_as_it_is():
    saved = names(split_pairs(pairs(30), ROOT, shares=SHARES, seed=7)[0])
    parts, notes = assign_pairs(pairs(30), ROOT, saved)
    assert names(parts) == saved
    assert notes == ["The parts (21 train, 5 validation, 4 test) are those of the saved split."]


def test_images_that_are_new_since_the_split_are_left_out_and_said():
    saved = names(split_pairs(pairs(30), ROOT, shares=SHARES, seed=7)[0])
    parts, notes = assign_pairs(pairs(32), ROOT, saved)
    assert names(parts) == saved
    assert "2 images are not in the saved split (0030, 0031)." in notes


@pytest.mark.parametrize(
    ("assignments", "text"),
    [
        (
            {"train": ["0000", "x", "y"], "validation": ["0001"]},
            r"lacks 2 images .*'train' \(x, y\)",
        ),
        (
            {"train": ["0000"], "validation": ["0000"]},
            "'0000' twice, in 'train' and 'validation'",
        ),
        ({"train": ["0000", "0000"], "validation": ["0001"]}, "'0000' twice, in 'train'"),
        ({"train": ["0000"], "validation": []}, "empty part 'validation'"),
    ],
)
def test_a_saved_split_that_does_not_fit(assignments, text):
    with pytest.raises(UsageError, match=text):
        assign_pairs(pairs(5), ROOT, assignments)
