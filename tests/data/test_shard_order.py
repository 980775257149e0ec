"""The order of shards: a permutation, a function of its address, and gentle to a bounded cache."""

from collections import OrderedDict
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset

from truemask.data.batches import EpochBatches
from truemask.data.cache import MemoryCache
from truemask.data.label_edits import Relabelled
from truemask.data.randomness import epoch_order
from truemask.data.shard_order import (
    PrefetchedBatches,
    Sharded,
    group_order,
    shard_order,
    sharded,
)
from truemask.data.sharding import write_shards
from truemask.data.views import View
from truemask.datasets.folder import folder
from truemask.datasets.shards import shards
from truemask.miniatures.writing import write_miniature

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def in_use(order: list[int], groups: list[int]) -> list[int]:
    """How many shards are begun and not done at each place, the order taken as a ring.

    On a ring a shard is in use on the shortest arc that holds all of its samples.
    """
    total = len(order)
    use = [0] * total
    for group in set(groups):
        places = [place for place, index in enumerate(order) if groups[index] == group]
        gaps = [
            (after - before) % total or total
            for before, after in zip(places, places[1:] + places[:1], strict=True)
        ]
        widest = int(np.argmax(gaps))
        start = places[(widest + 1) % len(places)]
        for step in range(total - gaps[widest] + 1):
            use[(start + step) % total] += 1
    return use


def fetches(order: list[int], groups: list[int], room: int) -> int:
    """How often a shard has to be fetched by a cache of so many, the least used of which go."""
    kept: OrderedDict[int, None] = OrderedDict()
    count = 0
    for index in order:
        count += groups[index] not in kept
        kept[groups[index]] = None
        kept.move_to_end(groups[index])
        if len(kept) > room:
            kept.popitem(last=False)
    return count


@given(lengths=lengths, window=st.integers(1, 14), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_a_permutation_that_is_the_same_again(lengths, window, seed, epoch):
    order = shard_order(lengths, seed=seed, epoch=epoch, window=window)
    assert sorted(order) == list(range(sum(lengths)))
    assert all(type(index) is int for index in order)
    assert order == shard_order(lengths, seed=seed, epoch=epoch, window=window)


@given(
    lengths=st.lists(st.integers(12, 24), min_size=12, max_size=24),
    window=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_no_more_shards_than_the_window_are_in_use(lengths, window, seed):
    # Of a third of the ring at most, so that the shortest arc is the one that was meant.
    groups = list(chain.from_iterable([n] * length for n, length in enumerate(lengths)))
    order = group_order(groups, seed=seed, epoch=0, window=window)
    assert max(in_use(order, groups)) <= window


def test_the_order_depends_on_seed_and_epoch():
    made = {
        tuple(shard_order([5] * 20, seed=seed, epoch=epoch, window=4))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(made) == 9


@pytest.mark.parametrize("window", [8, 9, 100])
def test_with_all_shards_in_the_window_it_is_the_order_of_data_without_shards(window):
    order = shard_order([3] * 8, seed=4, epoch=5, window=window)
    assert order == epoch_order(24, seed=4, epoch=5)
    assert shard_order([3] * 8, seed=4, epoch=5, window=7) != order


def test_it_matters_not_how_samples_lie_in_the_dataset():
    groups = np.random.default_rng(0).integers(0, 30, 600).tolist()
    order = group_order(groups, seed=0, epoch=0, window=5)
    assert sorted(order) == list(range(600))
    assert max(in_use(order, groups)) <= 5


def test_a_cache_of_the_window_fetches_each_shard_about_once():
    groups = [index // 50 for index in range(100 * 50)]
    for epoch in range(3):
        order = group_order(groups, seed=0, epoch=epoch, window=8)
        assert fetches(order, groups, 10) <= 100 + 8
    assert fetches(epoch_order(5000, seed=0, epoch=0), groups, 10) > 4000


def test_every_stretch_is_mixed():
    """Also at the beginning and at the end: batches of 16 from 8 shards hold 7 of them or so."""
    groups = [index // 50 for index in range(100 * 50)]
    order = group_order(groups, seed=0, epoch=0, window=8)
    held = [len({groups[i] for i in order[at : at + 16]}) for at in range(0, 5000 - 16, 16)]
    # Of 8 boxes 16 balls leave 8 * (7/8)^16 empty.
    assert np.mean(held) == pytest.approx(8 * (1 - (7 / 8) ** 16), abs=0.3)
    assert min(held) >= 4


def test_prefetched_batches_are_the_same_and_asked_for_earlier():
    groups = [index // 40 for index in range(800)]
    batches = EpochBatches(
        800,
        batch_size=8,
        seed=0,
        order=lambda epoch: group_order(groups, seed=0, epoch=epoch, window=4),
    )
    wanted: list[int] = []
    ahead = PrefetchedBatches(batches, Sharded(groups, 4, wanted.append))
    assert len(ahead) == len(batches) == 100
    before: list[set[int]] = []
    found = []
    for batch in ahead:
        found.append(batch)
        before.append(set(wanted))
    assert found == list(batches)
    assert set(wanted) == set(range(20))
    for number, batch in enumerate(found):
        soon = found[number : number + 5]
        assert {groups[index] for one in soon for _, index in one} <= before[number]
        assert {groups[index] for _, index in batch} <= before[number]
    assert len(before[0]) < 10


@pytest.fixture
def parts(tmp_path):
    write_miniature("folder", tmp_path / "data", images=16)
    write_shards(folder(tmp_path / "data"), tmp_path / "shards", size=25_000)
    return shards(tmp_path / "shards", window=3)


def test_shards_are_found_behind_views_and_caches(parts):
    train = parts["train"]
    assert len(train.shards) > 3
    relabelled = Relabelled(
        dataset=train.resized((8, 8)),
        labels=train.labels,
    )
    for dataset in (train, MemoryCache(train, limit=100), relabelled):
        found = sharded(dataset)
        assert found is not None
        assert (found.groups, found.window) == (train.groups, 3)


def test_a_view_counts_the_shards_of_its_sources(parts):
    view = View.of(parts.values())
    found = sharded(MemoryCache(view, limit=100))
    assert found is not None
    assert len(found.groups) == len(view)
    names = {}
    for (source, index), group in zip(view.places, found.groups, strict=True):
        dataset = view.sources[source]
        names.setdefault(group, set()).add(dataset.shards[dataset.groups[index]].name)
    assert all(len(one) == 1 for one in names.values())
    assert (
        len(set.union(*names.values())) == len(names) == sum(len(p.shards) for p in parts.values())
    )
    fetched = []
    for dataset in parts.values():
        dataset.store.prefetch = lambda shard: fetched.append(shard.name)
    for group in names:
        found.prefetch(group)
    assert [{name} for name in fetched] == list(names.values())


def test_other_samples_lie_in_no_shards(parts, tmp_path):
    files = folder(tmp_path / "data")["train"]
    assert sharded(files) is None
    assert sharded(View.of([files])) is None
    assert sharded(shards(tmp_path / "shards", window=None)["train"]) is None
    subset = Subset(parts["train"], [1, 0])  # has a `dataset`, and other indices
    assert sharded(subset) is None
