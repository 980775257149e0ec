"""Views, resizing after reading, and counting pixels."""

import pickle

import numpy as np
import pytest
import torch
from in_memory import InMemory, numbered
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from truemask.data.views import Resized, View, attributes, count_pixels, read_mask, resized
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair
from truemask.datasets.textures import textures
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.labels import LabelMap


def masks(count, height=4, width=6, seed=0):
    random = np.random.default_rng(seed)
    return random.choice([0, 1, 2, 255], (count, height, width)).astype(np.uint8)


@pytest.fixture
def paired(tmp_path):
    pairs = []
    for i, mask in enumerate(masks(4, 9, 14, seed=3)):
        image, path = tmp_path / f"{i}.jpg", tmp_path / f"{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 14, 3), np.uint8)).save(image)
        Image.fromarray(mask).save(path)
        pairs.append(Pair(None, f"{i}", image, path, {"city": "x" if i else "y"}))
    labels = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2, 255: 255})
    return PairedDataset(pairs=tuple(pairs), labels=labels)


def test_a_view_shows_samples_of_several_datasets_sorted_by_name():
    first = InMemory(["b", "d"], masks(2), attributes=[{"city": "x"}, {"city": "y"}])
    second = InMemory(["c", "a"], masks(2, seed=1))
    view = View.of([first, second])
    assert view.names == ("a", "b", "c", "d")
    assert view.attributes == ({}, {"city": "x"}, {}, {"city": "y"})
    assert [view[i].name for i in range(len(view))] == list(view.names)
    assert torch.equal(view[0].mask, second[1].mask)
    assert torch.equal(view[3].image, first[1].image)
    assert torch.equal(view.mask(3), first[1].mask)
    assert (view.labels, view.images) == (first.labels, first.images)
    assert View.of([second, first]).names == view.names


def test_taking_keeps_the_order_asked_for_and_reads_nothing():
    data = InMemory(numbered(5))
    view = View.of([data]).take([4, 1])
    assert view.names == ("0004", "0001")
    assert view.take([1]).names == ("0001",)
    assert len(View.of([data]).take([])) == 0
    assert data.reads == 0


def test_a_view_of_a_view():
    inner = View.of([InMemory(numbered(5), masks(5))]).take([3, 2])
    outer = View.of([inner])
    assert outer.names == ("0002", "0003")
    assert torch.equal(outer[0].mask, inner[1].mask)


def test_sizes_are_those_of_the_sources_or_missing(paired):
    assert View.of([paired]).take([2]).sizes == ((9, 14),)
    assert not hasattr(View.of([InMemory(["a"])]), "sizes")


def test_a_pickled_view_is_the_same_and_carries_no_names(paired):
    view = View.of([paired]).take([2, 0])
    before = len(pickle.dumps(view))
    assert view.names == ("2", "0")
    assert view.attributes == ({"city": "x"}, {"city": "y"})
    again = pickle.loads(pickle.dumps(view))
    assert again == view
    assert again.names == view.names
    # The cached names of the source stay in its own pickle, a few bytes a sample.
    assert len(pickle.dumps(view)) - before < 200
    assert torch.equal(again[1].image, view[1].image)


def test_data_that_does_not_go_together():
    data = InMemory(["a"])
    other = LabelMap(names=("a", "x", "c"), values={0: 0})
    with pytest.raises(UsageError, match="different label maps"):
        View.of([data, InMemory(["b"], labels=other)])
    grey = InMemory(["b"])
    grey.images = ImageSpec(channels=1)
    with pytest.raises(UsageError, match="different kinds of images"):
        View.of([data, grey])


def test_endless_data_is_not_put_together_but_some_of_it_is_a_view():
    parts = textures(size=8, train=5, validation=2, test=2)
    train = parts["train"]
    with pytest.raises(UsageError, match="generated anew .* leave out data.split"):
        View.of([train])
    some = View.some(train, [4, 1, 1])
    assert some.names == ("train-000004", "train-000001", "train-000001")
    assert not getattr(some, "endless", False)
    assert [torch.equal(some[0].image, train[index].image) for index in (4, 0)] == [True, False]
    assert len(list(some)) == len(some) == 3
    assert len(View.of([parts["validation"], parts["test"]])) == 4


def test_resizing_after_reading_equals_torchvision():
    data = InMemory(["a", "b"], masks(2, 37, 53))
    small = resized(data, (11, 20))
    assert isinstance(small, Resized)
    for i in range(2):
        sample, raw = small[i], data[i]
        assert torch.equal(sample.image, resize(raw.image, [11, 20], antialias=True))
        wanted = resize(raw.mask[None], [11, 20], InterpolationMode.NEAREST_EXACT)[0]
        assert torch.equal(sample.mask, wanted)
        assert torch.equal(read_mask(small, i), wanted)
        assert type(sample.image) is type(raw.image)
        assert type(sample.mask) is type(raw.mask)
        assert sample.name == raw.name
    assert small.sizes == ((11, 20),) * 2
    assert (small.names, small.labels, len(small)) == (data.names, data.labels, 2)


def test_resizing_again_starts_from_the_data():
    data = InMemory(["a"], masks(1, 8, 8))
    again = resized(resized(data, (2, 2)), (8, 8))
    assert torch.equal(again[0].image, data[0].image)
    assert torch.equal(again[0].mask, data[0].mask)


def test_data_that_reads_at_a_size_does_so(paired):
    view = View.of([paired, InMemory(["z"], masks(1))]).resized((5, 7))
    assert view.sources[0] == paired.resized((5, 7))
    assert isinstance(view.sources[1], Resized)
    assert {sample.mask.shape for sample in (view[0], view[4])} == {(5, 7)}
    assert view.sizes == ((5, 7),) * 5
    assert torch.equal(view[1].mask, Resized(dataset=paired, size=(5, 7))[1].mask)


def test_resized_generated_data_stays_endless():
    train = textures(size=8, train=2)["train"]
    small = resized(train, (4, 4))
    assert small.endless
    assert small[100].image.shape == (1, 4, 4)
    assert not resized(InMemory(["a"]), (4, 4)).endless


def test_attributes_of_data_that_tells_none():
    assert list(attributes(InMemory(["a", "b"]))) == [{}, {}]


def test_a_mask_is_read_alone_where_that_is_possible():
    class Apart(InMemory):
        def mask(self, index):
            return self[index].mask + 1

    data = Apart(["a"])
    assert torch.equal(read_mask(data, 0), data[0].mask + 1)
    assert torch.equal(View.of([data]).mask(0), data[0].mask + 1)


def test_pixels_are_counted_in_every_mask():
    given = masks(9, 5, 7)
    seen = []
    counts = count_pixels(
        InMemory(numbered(9), given), progress=lambda done, total: seen.append((done, total))
    )
    assert counts.shape == (9, 256)
    for row, mask in zip(counts, given, strict=True):
        assert np.array_equal(row, np.bincount(mask.ravel(), minlength=256))
    assert seen == [(i, 9) for i in range(1, 10)]


def test_an_unreadable_mask_is_named(paired):
    paired.pairs[2].mask.write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"2\.png"):
        count_pixels(paired)
