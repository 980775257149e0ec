"""Parts are complete and disjoint, groups stay together, classes are spread, mistakes are named."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import InMemory, numbered, presence_masks

from truemask.build import build
from truemask.data.apportion import apportion_at_random, apportion_in_order
from truemask.data.splits import KFold, Ratio, assign, refuse_overlap, resplit
from truemask.data.views import View
from truemask.datasets.pairing import Pair
from truemask.datasets.splitting import split_pairs
from truemask.datasets.textures import textures
from truemask.errors import UsageError
from truemask.labels import LabelMap

PARTS = ("train", "validation", "test")
SHARES = (0.7, 0.15, 0.15)


def pool(names, **options):
    return View.of([InMemory(names, **options)])


def grouped(sizes):
    """A pool whose samples have the attribute "city"."""
    names = [f"c{group:02d}_{i:03d}" for group, size in enumerate(sizes) for i in range(size)]
    return pool(names, attributes=[{"city": name[:3]} for name in names])


def with_classes(presence):
    """A pool whose masks hold the classes of each row of (N, K)."""
    count, classes = presence.shape
    labels = LabelMap(
        names=tuple(f"class {i}" for i in range(classes)),
        values={i: i for i in (*range(classes), 255)},
    )
    return pool(numbered(count), masks=presence_masks(presence), labels=labels)


def named(parts, view):
    return {part: sorted(view.names[index] for index in chosen) for part, chosen in parts.items()}


def check_partition(parts, count):
    assert sorted(index for chosen in parts.values() for index in chosen) == list(range(count))
    assert all(chosen == sorted(chosen) and chosen for chosen in parts.values())


@given(st.integers(3, 300), st.integers(0, 5), st.booleans())
def test_every_image_is_in_one_part_of_the_size_asked_for(count, seed, shuffle):
    parts = Ratio(shares=SHARES, seed=seed, shuffle=shuffle)(pool(numbered(count)))
    check_partition(parts, count)
    assert tuple(parts) == PARTS
    for part, share in zip(PARTS, SHARES, strict=True):
        assert abs(len(parts[part]) - share * count) < 1 or len(parts[part]) == 1 or count < 8


@pytest.mark.parametrize(
    ("count", "shares", "sizes"),
    [
        (2913, (0.7, 0.1, 0.2), (2039, 291, 583)),
        (3426, (0.7, 0.2, 0.1), (2398, 685, 343)),
        (3, SHARES, (1, 1, 1)),
        (20, SHARES, (14, 3, 3)),
    ],
)
def test_published_sizes(count, shares, sizes):
    for shuffle in (False, True):
        parts = Ratio(shares=shares, shuffle=shuffle)(pool(numbered(count)))
        assert tuple(map(len, parts.values())) == sizes


def test_in_order_the_names_are_taken_one_after_the_other():
    view = pool(numbered(2913))
    parts = Ratio(shares=[0.7, 0.1, 0.2], shuffle=False)(view)
    assert parts["train"] == list(range(2039))
    assert parts["validation"] == list(range(2039, 2330))
    assert parts["test"] == list(range(2330, 2913))
    # By name, not by place in the pool.
    turned = view.take(reversed(range(len(view))))
    again = Ratio(shares=[0.7, 0.1, 0.2], shuffle=False)(turned)
    assert named(again, turned) == named(parts, view)


def test_shares_of_zero_make_no_part():
    assert list(Ratio(shares=(0.8, 0.0, 0.2))(pool(numbered(10)))) == ["train", "test"]
    assert Ratio(shares=(0.0, 0.0, 1.0))(pool(numbered(3))) == {"test": [0, 1, 2]}


def test_shuffled_it_is_the_split_that_a_folder_has_by_itself():
    names = numbered(57)
    pairs = [Pair(None, name, Path(f"{name}.jpg"), Path(f"{name}.png")) for name in names]
    before, _ = split_pairs(pairs, Path("data"), shares=SHARES, seed=3)
    view = pool(names)
    assert named(Ratio(seed=3)(view), view) == {
        part: [pair.name for pair in members] for part, members in before.items()
    }


RULES = [
    {},
    {"group": "city"},
    {"pattern": "^(c..)_"},
    {"stratify": True},
    {"stratify": True, "group": "city"},
]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("split", [Ratio, KFold])
def test_names_and_seed_alone_decide(rules, split):
    sizes = [3, 9, 1, 4, 4, 4, 7, 2, 5, 5, 8, 1]
    view = grouped(sizes)
    mixed = list(range(len(view)))
    random.Random(0).shuffle(mixed)
    other = view.take(mixed)
    first = named(split(seed=2, **rules)(view), view)
    assert named(split(seed=2, **rules)(view), view) == first
    assert named(split(seed=2, **rules)(other), other) == first
    assert named(split(seed=3, **rules)(view), view) != first


def test_a_new_image_moves_few_others():
    before, after = pool(numbered(200)), pool([*numbered(200), "new"])
    train = {*named(Ratio()(before), before)["train"]}
    assert len(train - {*named(Ratio()(after), after)["train"]}) <= 1


group_sizes = st.lists(st.integers(1, 30), min_size=3, max_size=30)


@given(group_sizes, st.integers(0, 3), st.booleans(), st.booleans())
def test_groups_never_cross_and_the_shares_come_near(sizes, seed, shuffle, stratify):
    view = grouped(sizes)
    shares = (0.6, 0.2, 0.2)
    split = Ratio(
        shares=shares, seed=seed, shuffle=shuffle, stratify=stratify and shuffle, group="city"
    )
    parts = split(view)
    check_partition(parts, len(view))
    cities = [{view.attributes[index]["city"] for index in chosen} for chosen in parts.values()]
    assert sum(map(len, cities)) == len(sizes)
    for share, chosen in zip(shares, parts.values(), strict=True):
        off = len(chosen) - share * len(view)
        assert off <= max(sizes) + 1


def test_equal_groups_meet_the_shares_within_one_group():
    # As Carvana: 318 cars of 16 pictures each.
    parts = Ratio(group="city")(grouped([16] * 100))
    assert [len(chosen) // 16 for chosen in parts.values()] == pytest.approx([70, 15, 15], abs=1)


def test_many_unequal_groups_meet_the_shares_nearly():
    sizes = [int(size) for size in np.random.default_rng(0).geometric(0.02, 100)]
    for seed in range(5):
        parts = Ratio(group="city", seed=seed)(grouped(sizes))
        for share, chosen in zip(SHARES, parts.values(), strict=True):
            assert len(chosen) / sum(sizes) == pytest.approx(share, abs=0.005)


def test_a_huge_group_leaves_a_group_for_every_part():
    for seed in range(5):
        parts = Ratio(shares=(0.1, 0.1, 0.8), group="city", seed=seed)(grouped([50, 50, 1]))
        check_partition(parts, 101)


def test_groups_in_order_are_cut_nearest_to_the_shares():
    view = grouped([4, 3, 3, 4, 3, 3])
    parts = Ratio(shares=(0.5, 0.25, 0.25), shuffle=False, group="city")(view)
    assert [len(chosen) for chosen in parts.values()] == [10, 4, 6]
    assert parts["train"] == list(range(10))
    assert apportion_in_order([1, 1, 9, 1], [4, 4, 4]) == [0, 0, 1, 2]
    assert apportion_in_order([9, 1, 1], [4, 4, 3]) == [0, 1, 2]


def test_a_pattern_tells_groups_by_the_names():
    view = pool(["a_1", "a_2", "b_1", "c_9", "c_8"])
    parts = named(Ratio(shares=(0.4, 0.4, 0.2), pattern="^(.)_")(view), view)
    assert parts["test"] == ["b_1"]
    assert sorted([parts["train"], parts["validation"]]) == [["a_1", "a_2"], ["c_8", "c_9"]]


@given(st.integers(2, 7), st.integers(0, 60), st.integers(0, 3), st.booleans())
def test_folds_partition(folds, more, seed, shuffle):
    view = pool(numbered(folds + more))
    seen = []
    for fold in range(folds):
        parts = KFold(folds=folds, fold=fold, seed=seed, shuffle=shuffle)(view)
        check_partition(parts, len(view))
        assert list(parts) == ["train", "validation"]
        assert len(parts["validation"]) in (len(view) // folds, -(-len(view) // folds))
        seen += parts["validation"]
    assert sorted(seen) == list(range(len(view)))


@pytest.mark.parametrize("rules", RULES)
def test_folds_partition_by_every_rule(rules):
    view = grouped([3, 5, 2, 4, 1, 6, 2])
    chosen = [KFold(folds=3, fold=fold, **rules)(view)["validation"] for fold in range(3)]
    assert sorted(index for fold in chosen for index in fold) == list(range(len(view)))
    if rules.keys() & {"group", "pattern"}:
        cities = [{view.attributes[index]["city"] for index in fold} for fold in chosen]
        assert sum(map(len, cities)) == 7


def skewed(count, seed):
    """Classes that occur in 1 of 2 to 1 of 40 images, some of them together."""
    generator = np.random.default_rng(seed)
    presence = generator.random((count, 8)) < np.array([1, 0.5, 0.3, 0.2, 0.1, 0.06, 0.03, 0.025])
    presence[:, 7] |= presence[:, 6] & (generator.random(count) < 0.5)
    return presence


def deviation(parts, presence):
    """Mean of |share of a class's images in a part - share of all images in it|."""
    rows = []
    for chosen in parts.values():
        there = presence[chosen].sum(0) / np.maximum(presence.sum(0), 1)
        rows.append(np.abs(there - len(chosen) / len(presence)))
    return float(np.mean(rows))


def test_stratified_parts_are_nearer_to_all_images_than_shuffled_ones():
    ratios = []
    for seed in range(8):
        presence = skewed(240, seed)
        view = with_classes(presence)
        stratified = Ratio(stratify=True, seed=seed)(view)
        plain = Ratio(seed=seed)(view)
        check_partition(stratified, 240)
        # Sizes are met exactly, which plain iterative stratification does not promise.
        assert [*map(len, stratified.values())] == [*map(len, plain.values())]
        ratios.append(deviation(stratified, presence) / deviation(plain, presence))
    assert max(ratios) < 0.6
    assert np.mean(ratios) < 0.35


def test_a_rare_class_is_in_every_part():
    presence = np.zeros((60, 3), dtype=bool)
    presence[:, 0] = True
    presence[:6, 1] = True
    presence[7:10, 2] = True
    for seed in range(10):
        parts = Ratio(shares=(0.5, 0.25, 0.25), stratify=True, seed=seed)(with_classes(presence))
        for chosen in parts.values():
            assert presence[chosen].any(0).all()


def test_stratified_folds_each_have_every_class():
    presence = skewed(200, 0)
    view = with_classes(presence)
    for fold in range(4):
        chosen = KFold(folds=4, fold=fold, stratify=True)(view)["validation"]
        assert len(chosen) == 50
        assert np.abs(presence[chosen].sum(0) - presence.sum(0) / 4).max() <= 2


def test_stratified_groups_stay_together_and_spread_the_classes():
    generator = np.random.default_rng(1)
    ratios = []
    for seed in range(6):
        sizes = generator.integers(1, 6, 80)
        groups = np.repeat(np.arange(80), sizes)
        presence = np.repeat(skewed(80, seed), sizes, 0) & (
            generator.random((len(groups), 8)) < 0.9
        )
        names = [f"g{group:02d}_{i:03d}" for i, group in enumerate(groups)]
        labels = with_classes(presence).labels
        view = pool(names, masks=presence_masks(presence), labels=labels)
        rules = {"shares": (0.5, 0.25, 0.25), "pattern": "^(g..)", "seed": seed}
        stratified, plain = Ratio(stratify=True, **rules)(view), Ratio(**rules)(view)
        check_partition(stratified, len(view))
        for chosen, other in zip(stratified.values(), plain.values(), strict=True):
            assert abs(len(chosen) - len(other)) <= 5
        assert sum(len({*groups[chosen]}) for chosen in stratified.values()) == 80
        ratios.append(deviation(stratified, presence) / deviation(plain, presence))
    assert np.mean(ratios) < 0.6


@given(st.integers(3, 40), st.integers(0, 100))
@settings(max_examples=30)
def test_stratifying_meets_the_sizes_whatever_the_classes(count, seed):
    presence = np.random.default_rng(seed).random((count, 4)) < 0.2
    parts = Ratio(stratify=True, seed=seed)(with_classes(presence))
    check_partition(parts, count)
    assert [*map(len, parts.values())] == [*map(len, Ratio()(pool(numbered(count))).values())]


def test_ignored_pixels_are_no_class_to_stratify_by():
    presence = skewed(50, 3)
    view = with_classes(presence)
    bare = [mask[:, :-1] if mask.size > 1 else mask for mask in view.sources[0].masks]
    again = pool(numbered(50), masks=bare, labels=view.labels)
    assert Ratio(stratify=True)(again) == Ratio(stratify=True)(view)


def test_masks_are_read_once_and_only_to_stratify():
    view = with_classes(skewed(20, 0))
    seen = []
    Ratio()(view)
    assert view.sources[0].reads == 0
    Ratio(stratify=True)(view, progress=lambda done, total: seen.append((done, total)))
    assert view.sources[0].reads == 20
    assert seen[-1] == (20, 20)


def test_units_of_one_image_meet_the_counts():
    chosen = apportion_at_random(numbered(50), [1] * 50, [30, 15, 5], seed=0)
    assert [chosen.count(part) for part in range(3)] == [30, 15, 5]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"shares": [0.7, 0.3]}, r"shares \[0\.7, 0\.3\] must be those of train, validation"),
        ({"shares": [70, 15, 15]}, "add up to 1"),
        ({"shares": [1.2, -0.1, -0.1]}, "add up to 1"),
        ({"keep_test": True}, "set the third share to 0"),
        ({"stratify": True, "shuffle": False}, "stratify=true cannot keep the order"),
        ({"group": "city", "pattern": "(a)"}, "give one of them"),
        ({"pattern": "(a"}, "is no regular expression: missing"),
        ({"pattern": "a.*"}, "has no group: put the part"),
        ({"groups": "city"}, "no setting 'groups'; did you mean 'group'"),
        ({"shares": 0.7}, "data.split.shares is 0.7, but must be a list"),
        ({"seed": "x"}, "data.split.seed is 'x', but must be a whole number"),
    ],
)
def test_settings_that_make_no_split(settings, text):
    with pytest.raises(UsageError, match=text) as caught:
        build({"_target_": "truemask.data.splits.Ratio", **settings}, key="data.split")
    assert str(caught.value).startswith("data.split")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"fold": 5}, "fold must be from 0 to 4 for 5 folds, got 5"),
        ({"fold": -1}, "fold must be from 0 to 4"),
        ({"group": "city", "pattern": "(a)"}, "give one of them"),
    ],
)
def test_settings_that_make_no_folds(settings, text):
    with pytest.raises(UsageError, match=text):
        build({"_target_": "truemask.data.splits.KFold", **settings}, key="data.split")


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (
            Ratio(group="city"),
            r"data\.split\.group=city: this attribute is missing for 2 of 4 images \(c, d\) "
            r"\(there are city, scene\)",
        ),
        (Ratio(group="cty"), r"missing for 4 of 4 images .*did you mean 'city'\?"),
        (
            Ratio(pattern="^([ab])$"),
            r"data\.split\.pattern='\^\(\[ab\]\)\$' finds no group in the names of 2 of 4 .*c, d",
        ),
        (Ratio(pattern="^(a)|b|c|d$"), r"the names of 3 of 4 images \(b, c, d\)"),
        (Ratio(group="scene"), r"cannot make 3 parts of 1 groups of images"),
        (KFold(folds=5), r"cannot make 5 parts of 4 images: each needs one at least"),
    ],
)
def test_data_that_does_not_suit_the_split(split, text):
    known = [{"city": "x", "scene": "s"}] * 2 + [{"scene": "s"}] * 2
    with pytest.raises(UsageError, match=text):
        split(pool("abcd", attributes=known))


def test_data_without_attributes_is_told_of_the_pattern():
    with pytest.raises(UsageError, match=r"this data has no attributes; data\.split\.pattern can"):
        Ratio(group="city")(pool("abcd"))


def test_names_that_stand_twice_are_not_split():
    view = View.of([InMemory("abc"), InMemory("cde")])
    for call in (lambda: Ratio()(view), lambda: assign(view, {"train": ["a"]})):
        with pytest.raises(UsageError, match="the pool part has c twice"):
            call()


def test_resplitting_takes_the_samples_of_all_parts():
    parts = {"train": InMemory(numbered(9, "b")), "validation": InMemory(numbered(11, "a"))}
    made = resplit(parts, Ratio(shares=(0.5, 0.25, 0.25), shuffle=False))
    assert [*made] == [*PARTS]
    assert made["train"].names == tuple(numbered(10, "a"))
    assert made["validation"].names == ("a0010", *numbered(4, "b"))


def test_resplitting_keeps_the_own_test_part_where_asked():
    parts = {part: InMemory(numbered(10, part)) for part in PARTS}
    for split in (KFold(folds=4, fold=3), Ratio(shares=(0.75, 0.25, 0.0), keep_test=True)):
        made = resplit(parts, split)
        assert made["test"] is parts["test"]
        assert [len(made[part]) for part in PARTS] == [15, 5, 10]
    assert [*resplit(parts, KFold(keep_test=False))] == ["train", "validation"]
    assert len(resplit(parts, KFold(keep_test=False))["train"]) == 24
    del parts["test"]
    assert [*resplit(parts, KFold())] == ["train", "validation"]
    with pytest.raises(UsageError, match="keep_test: this data has no test part"):
        resplit(parts, Ratio(shares=(0.5, 0.5, 0.0), keep_test=True))


def test_a_split_of_ones_own_is_a_function():
    made = resplit(
        {"all": InMemory(numbered(4))},
        lambda pool, progress: {"train": [0, 3], "test": [1], "x": []},
    )
    assert {part: data.names for part, data in made.items()} == {
        "train": ("0000", "0003"),
        "test": ("0001",),
    }
    with pytest.raises(UsageError, match=r"puts 1 images into more than one place \(0001\)"):
        resplit({"all": InMemory(numbered(4))}, lambda pool, progress: {"a": [0, 1], "b": [1]})


def test_generated_data_is_not_split():
    with pytest.raises(UsageError, match="generated anew"):
        resplit(textures(size=8, train=3, validation=3, test=3), Ratio())


def test_a_saved_split_is_taken_as_it_is():
    view = pool(numbered(30))
    saved = named(Ratio(seed=7)(view), view)
    assert assign(view, saved) == Ratio(seed=7)(view)
    assert assign(view, {"test": ["0004", "0001"]}) == {"test": [4, 1]}


@pytest.mark.parametrize(
    ("assignments", "text"),
    [
        (
            {"train": ["0000", "x", "y"], "validation": ["0001"]},
            r"the data lacks 2 images .*'train' \(x, y\)",
        ),
        ({"train": ["0000"], "validation": ["0000"]}, "'0000' twice, in 'train' and 'validation'"),
        ({"train": ["0000", "0000"]}, "'0000' twice, in 'train'"),
        ({"train": ["0000"], "validation": []}, "empty part 'validation'"),
    ],
)
def test_a_saved_split_that_does_not_fit(assignments, text):
    with pytest.raises(UsageError, match=text):
        assign(pool(numbered(5)), assignments)


def test_parts_that_overlap_are_refused():
    refuse_overlap({"train": InMemory("ab"), "test": InMemory("cd")})
    with pytest.raises(UsageError, match=r"train and test parts share 2 images \(b, c\)"):
        refuse_overlap(
            {"train": InMemory("abc"), "validation": InMemory("d"), "test": InMemory("bc")}
        )
    with pytest.raises(UsageError, match="the test part has c twice"):
        refuse_overlap({"train": InMemory("ab"), "test": InMemory("cc")})
