from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from truemask.data.cache import MemoryCache
from truemask.data.collate import collate
from truemask.data.statistics import Statistics, measure
from truemask.datasets.sample import Sample
from truemask.images import ImageSpec
from truemask.labels import LabelMap


class Random:
    """Images of mixed sizes with three classes and ignored pixels."""

    labels = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2})
    images = ImageSpec()

    def __init__(self, count: int = 7) -> None:
        self.names = [f"{i}" for i in range(count)]
        self.reads = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        random = np.random.default_rng(index)
        height, width = random.integers(3, 20, 2)
        image = random.integers(0, 256, (3, height, width)).astype(np.uint8)
        mask = random.choice([0, 1, 2, 255], (height, width)).astype(np.uint8)
        return Sample(
            image=tv_tensors.Image(torch.from_numpy(image)),
            mask=tv_tensors.Mask(torch.from_numpy(mask)),
            name=self.names[index],
        )


def test_padding_is_ignored_and_the_rest_is_unchanged() -> None:
    samples = [Random()[i] for i in range(4)]
    batch = collate(samples)
    assert batch.images.shape[-2:] == batch.masks.shape[-2:]
    sizes = [sample.mask.shape for sample in samples]
    assert batch.masks.shape[-2:] == tuple(max(side) for side in zip(*sizes, strict=True))
    assert batch.names == [sample.name for sample in samples]
    for sample, image, mask in zip(samples, batch.images, batch.masks, strict=True):
        height, width = sample.mask.shape
        assert torch.equal(image[:, :height, :width], sample.image)
        assert torch.equal(mask[:height, :width], sample.mask)
        valid = int((mask != 255).sum())
        assert valid == int((sample.mask != 255).sum())
        assert int(image.sum()) == int(sample.image.sum())


def test_a_batch_is_padded_to_a_multiple_of_the_stride_and_knows_the_attributes() -> None:
    samples = [replace(Random()[i], attributes={"scene": str(i)}) for i in range(4)]
    batch = collate(samples, stride=16)
    assert [side % 16 for side in batch.masks.shape[-2:]] == [0, 0]
    height = max(sample.mask.shape[0] for sample in samples)
    assert batch.masks.shape[1] - height < 16
    assert int((batch.masks != 255).sum()) == sum(int((s.mask != 255).sum()) for s in samples)
    assert batch.attributes == [{"scene": str(i)} for i in range(4)]


def test_a_batch_of_equal_sizes_is_not_padded() -> None:
    sample = Random()[0]
    assert collate([sample, sample]).masks.shape[-2:] == sample.mask.shape


def test_statistics_equal_a_count_over_all_pixels() -> None:
    data = Random()
    found = measure(data, limit=100, seed=0)
    pixels = (
        np.concatenate([np.asarray(data[i].image).reshape(3, -1) for i in range(7)], axis=1) / 255
    )
    ids = np.concatenate([np.asarray(data[i].mask).ravel() for i in range(7)])
    assert found.images == 7
    assert found.class_counts.tolist() == [int((ids == k).sum()) for k in range(3)]
    assert found.ignored == int((ids == 255).sum())
    np.testing.assert_allclose(found.mean, pixels.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(1), rtol=1e-9)


def test_statistics_merge() -> None:
    data = Random()
    one = [Statistics.of(data[i], num_classes=3, spec=data.images) for i in range(7)]
    empty = Statistics.empty(num_classes=3, spec=ImageSpec())
    left = empty.merge(one[0]).merge(one[1])
    right = one[2].merge(one[3]).merge(one[4])
    total = left.merge(right).merge(one[5].merge(one[6]))
    whole = measure(data, limit=7, seed=3)
    assert total.class_counts.tolist() == whole.class_counts.tolist()
    assert (total.mean, total.std) == (whole.mean, whole.std)


def test_a_limit_draws_as_many() -> None:
    assert measure(Random(), limit=3, seed=0).images == 3


def test_an_image_of_one_colour_has_a_deviation() -> None:
    image = tv_tensors.Image(torch.full((3, 4, 4), 7, dtype=torch.uint8))
    mask = tv_tensors.Mask(torch.zeros(4, 4, dtype=torch.uint8))
    found = Statistics.of(Sample(image=image, mask=mask, name="a"), num_classes=2, spec=ImageSpec())
    assert min(found.std) > 0


@pytest.mark.parametrize(("limit", "reads"), [(0, 14), (1 << 20, 7)])
def test_the_cache_gives_the_same_and_reads_once(limit: int, reads: int) -> None:
    data, direct = Random(), Random()
    cache = MemoryCache(data, limit=limit)
    for _ in range(2):
        for index in range(len(cache)):
            assert torch.equal(cache[index].image, direct[index].image)
    assert data.reads == reads
    assert cache.names == data.names


def test_the_cache_keeps_within_its_limit() -> None:
    data = Random()
    limit = 1000
    cache = MemoryCache(data, limit=limit)
    for index in range(len(cache)):
        cache[index]
    kept = sum(s.image.nbytes + s.mask.nbytes for s in cache._kept.values())
    assert 0 < kept <= limit
