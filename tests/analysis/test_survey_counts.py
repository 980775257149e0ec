"""Counts of a survey against plain loops over pixels, and merging in any order."""

from collections import Counter
from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torchvision import tv_tensors

from truemask.analysis.survey_counts import BINS, GRID, NAMED, SIDES, Counts, merged
from truemask.channels import STEPS, ChannelSums
from truemask.datasets.measuring import spots_of_image
from truemask.datasets.sample import Sample
from truemask.images import ImageSpec
from truemask.labels import LabelMap

K = 4
LABELS = LabelMap(names=tuple("abcd"), values={i: i for i in range(K)} | {255: 255})
SPEC = ImageSpec()
GREY = ImageSpec(channels=1, dtype="float32", low=-1.0, high=1.0)


def sample_of(ids, *, seed=0, name="one", spec=SPEC):
    random = np.random.default_rng(seed)
    shape = (spec.channels, *ids.shape)
    if spec.dtype == "uint8":
        image = random.integers(0, 256, shape, dtype=np.uint8)
    else:
        image = random.uniform(-1, 1, shape).astype(np.float32)
    return Sample(
        image=tv_tensors.Image(torch.from_numpy(image)),
        mask=tv_tensors.Mask(torch.from_numpy(ids)),
        name=name,
        attributes={"light": "day" if seed % 2 else "night", "id": name},
    )


def counts_of(sample):
    return Counts.of(
        sample.mask.numpy(),
        ChannelSums.of(sample.image, SPEC),
        name=sample.name,
        labels=LABELS,
        mode="RGB",
        spots=spots_of_image(sample.image, SPEC),
    ).grouped({"light": sample.attributes["light"]})


def same(one: Any, other: Any) -> bool:
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or not np.array_equal(a, b):
                return False
        elif field.name == "tally":
            if not same(a, b):
                return False
        elif field.name == "groups":
            if a.keys() != b.keys() or not all(same(a[key], b[key]) for key in a):
                return False
        elif a != b:
            return False
    return True


def flood(ids):
    """Regions by walking from pixel to pixel."""
    height, width = ids.shape
    seen = np.zeros(ids.shape, bool)
    found = []
    for start in np.ndindex(*ids.shape):
        if seen[start]:
            continue
        stack, area = [start], 0
        seen[start] = True
        while stack:
            y, x = stack.pop()
            area += 1
            for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= b < height and 0 <= a < width
                if inside and not seen[b, a] and ids[b, a] == ids[start]:
                    seen[b, a] = True
                    stack.append((b, a))
        found.append((int(ids[start]), area))
    return found


IDS = st.sampled_from([0, 1, 3, 255])
MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=IDS)
BLOCKY = MASKS.map(lambda ids: np.ascontiguousarray(np.kron(ids, np.ones((9, 13), np.uint8))))


@settings(max_examples=60, deadline=None)
@given(st.one_of(MASKS, BLOCKY))
def test_every_number_is_that_of_a_loop_over_pixels(ids):
    sample = sample_of(ids)
    found = counts_of(sample)
    height, width = ids.shape
    edges = np.zeros((2, K + 1), int)
    pixels, boundary = [0] * (K + 1), [0] * (K + 1)
    heat = np.zeros((K + 1, GRID, GRID), int)
    for y in range(height):
        for x in range(width):
            k = min(int(ids[y, x]), K)
            pixels[k] += 1
            heat[k, y * GRID // height, x * GRID // width] += 1
            for axis, (b, a) in enumerate(((y, x + 1), (y + 1, x))):
                if b < height and a < width and ids[b, a] != ids[y, x]:
                    edges[axis, k] += 1
                    edges[axis, min(int(ids[b, a]), K)] += 1
            sides = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            boundary[k] += any(
                ids[b, a] != ids[y, x] for b, a in sides if 0 <= b < height and 0 <= a < width
            )
    assert found.tally.pixels.tolist() == pixels
    assert found.boundary.tolist() == boundary
    assert np.array_equal(found.heat, heat)
    assert np.array_equal(found.edges, edges[:, :K])
    assert found.colours == {
        (k, *(int(channel[ids == k].mean()) // 8 for channel in sample.image.numpy())): 1
        for k in np.unique(ids[ids < K]).tolist()
    }
    sizes = np.zeros((K, BINS), int)
    below, pixels_below = np.zeros((len(SIDES), K), int), np.zeros((len(SIDES), K), int)
    for k, area in flood(ids):
        if k < K:
            sizes[k, area.bit_length() - 1] += 1
            for place, side in enumerate(SIDES):
                if area * Fraction(side, max(height, width)) ** 2 < 1:
                    below[place, k] += 1
                    pixels_below[place, k] += area
    assert np.array_equal(found.regions, sizes)
    assert np.array_equal(found.below, below)
    assert np.array_equal(found.pixels_below, pixels_below)
    present = [count > 0 for count in pixels[:K]]
    assert found.together.tolist() == [[int(a and b) for a in present] for b in present]
    assert found.tally.holding.tolist() == [int(a) for a in present]
    assert found.sizes == {ids.shape: 1}
    assert [bool(names) for names in found.lacking] == [not a for a in present]
    values = sample.image.numpy().astype(object)
    assert found.channels.sums == tuple(int(channel.sum()) for channel in values)
    assert found.channels.squares == tuple(int((channel**2).sum()) for channel in values)


def test_a_mask_of_many_regions_and_one_of_a_large_side():
    random = np.random.default_rng(0)
    noise = random.choice(np.array([0, 1, 2, 255], np.uint8), (60, 700))
    found = counts_of(sample_of(noise))
    regions = flood(noise)
    for k in range(K):
        areas = [area for own, area in regions if own == k]
        assert found.regions[k].sum() == len(areas)
        for place, side in enumerate(SIDES):
            small = [area for area in areas if area * side**2 < 700**2]
            assert found.below[place, k] == len(small)
            assert found.pixels_below[place, k] == sum(small)
    assert found.below[:, 0].all()


def parts_of(seed, count):
    random = np.random.default_rng(seed)
    values = np.array([0, 1, 2, 3, 255], np.uint8)
    made = []
    for index in range(count):
        shape = tuple(random.integers(1, 30, 2))
        some = random.choice(values, random.integers(1, 6), replace=False)
        name = f"{seed}-{index}"
        made.append(counts_of(sample_of(random.choice(some, shape), seed=index, name=name)))
    made.append(Counts.failure(f"{seed}-bad", "broken", classes=K, channels=3))
    return made


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 40), st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_order_or_brackets(seed, count, random):
    made = parts_of(seed, count)
    whole = merged(made, K, 3)
    random.shuffle(made)
    cut = random.randint(0, len(made))
    one, other = merged(made[:cut], K, 3), merged(made[cut:], K, 3)
    assert same(one.merge(other), whole)
    assert same(other.merge(one), whole)
    assert same(whole.merge(Counts.empty(K, 3)), whole)
    assert whole.tally.images == count
    assert whole.failures == 1


def test_merging_changes_neither_of_the_two():
    one, other = parts_of(1, 3)[0], parts_of(2, 3)[0]
    before = merged([one], K, 3)
    one.merge(other)
    assert same(one, before)


def test_the_images_without_a_class_that_are_named_are_few_and_the_same_in_any_order():
    made = parts_of(3, 200)
    whole = merged(made, K, 3)
    assert all(len(names) == NAMED for names in whole.lacking)
    assert same(whole, merged(made[::-1], K, 3))
    lacking = {name for counts in made for _, name in counts.lacking[0] if counts.tally.images}
    assert {name for _, name in whole.lacking[0]} <= lacking


def test_groups_are_the_images_of_one_value():
    made = parts_of(4, 30)[:-1]
    whole = merged(made, K, 3)
    for light in ("day", "night"):
        own = [one for one in made if ("light", light) in one.groups]
        alone = merged(own, K, 3).tally
        assert same(whole.groups["light", light], alone)
    assert Counter(key for key, _ in whole.groups) == {"light": 2}


def test_channel_sums_are_exact_for_every_size_and_merge_so():
    random = np.random.default_rng(0)
    for shape in ((3, 1, 1), (1, 5, 7), (4, 97, 1), (3, 300, 411), (2, 255, 256)):
        spec = ImageSpec(channels=shape[0], mean=(0.0,), std=(1.0,))
        image = random.integers(0, 256, shape, dtype=np.uint8)
        image[0] = 255
        found = ChannelSums.of(tv_tensors.Image(torch.from_numpy(image)), spec)
        wide = image.astype(object)
        assert found.pixels == shape[1] * shape[2]
        assert found.sums == tuple(int(c.sum()) for c in wide)
        assert found.squares == tuple(int((c**2).sum()) for c in wide)
        scaled = image.reshape(shape[0], -1).astype(np.float64) / 255
        assert np.allclose(found.mean(spec), scaled.mean(1), rtol=1e-12)
        deviation = np.maximum(scaled.std(1), 1e-3)
        assert np.allclose(found.std(spec), deviation, rtol=1e-9)
        assert found.merge(ChannelSums.empty(shape[0])) == found


def test_images_of_floats_are_counted_in_steps_of_their_range():
    sample = sample_of(np.zeros((40, 50), np.uint8), spec=GREY)
    found = ChannelSums.of(sample.image, GREY)
    scaled = (sample.image.numpy().astype(np.float64) + 1) / 2
    assert abs(found.mean(GREY)[0] - scaled.mean()) < 1 / STEPS
    assert abs(found.std(GREY)[0] - scaled.std()) < 1 / STEPS
