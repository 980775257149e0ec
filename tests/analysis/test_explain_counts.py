"""The counts of an explanation, each held against a slow and plain way to get it."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from truemask.analysis import explain_summary as summary
from truemask.analysis.explain_costs import Cost, confusion_costs, heaviest
from truemask.analysis.explain_places import (
    GRID,
    REACHES,
    SIZES,
    border_counts,
    border_distances,
    position_counts,
    region_counts,
)
from truemask.analysis.explain_tally import Sampled, Tally, confidences
from truemask.datasets.sample import Sample
from truemask.evaluation import Seen
from truemask.labels import LabelMap
from truemask.metrics.confusion import headline, iou

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2, 9: 255})
BINARY = LabelMap(names=("background", "crack"), values={0: 0, 255: 1})


def blobs(seed, height=37, width=52, void=True):
    """A mask of a few rectangles and an ignored rim."""
    rng = np.random.default_rng(seed)
    mask = np.full((height, width), rng.integers(3), dtype=np.uint8)
    for _ in range(6):
        top, left = rng.integers(height), rng.integers(width)
        mask[top : top + rng.integers(1, 20), left : left + rng.integers(1, 20)] = rng.integers(3)
    if void:
        top, left = rng.integers(height - 8), rng.integers(width - 8)
        mask[top : top + 8, left : left + 8] = 255
    return mask


@pytest.mark.parametrize("seed", range(6))
def test_distances_are_to_the_nearest_pixel_of_another_class(seed):
    mask = blobs(seed)
    found = border_distances(mask, LABELS)
    places = np.argwhere(mask != 255)
    ids = mask[mask != 255]
    for (y, x), own in zip(places, ids, strict=True):
        others = places[ids != own]
        nearest = np.sqrt(((others - (y, x)) ** 2).sum(1)).min() if len(others) else np.inf
        assert found[y, x] == pytest.approx(nearest if nearest <= 32 else np.inf)
    assert np.isinf(found[mask == 255]).all()


def test_an_ignored_rim_is_no_border_and_hides_none():
    mask = np.zeros((1, 12), dtype=np.uint8)
    mask[0, 5:8] = 255
    assert np.isinf(border_distances(mask, LABELS)).all()
    mask[0, 8:] = 1
    assert border_distances(mask, LABELS)[0, [0, 4, 8, 11]].tolist() == [8, 4, 4, 7]


def test_border_bins_hold_their_upper_end():
    distances = np.array([[1.0, 1.4, 2.0, 2.1, 4.0, 32.0, np.inf]])
    valid = np.ones((1, 7), dtype=bool)
    counts = border_counts(distances, valid, distances >= 32)
    assert counts[:, 0].tolist() == [1, 2, 2, 0, 0, 1, 1]
    assert counts[:, 1].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert len(counts) == len(REACHES) + 1


def test_regions_are_connected_at_corners_and_counted_by_size():
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[0, 0] = mask[1, 1] = 1  # one region of two pixels
    mask[4:6, 4:8] = 1  # one of eight
    correct = np.zeros(mask.shape, dtype=bool)
    correct[0, 0] = True
    correct[4, 4:7] = True
    counts = region_counts(mask, correct, LABELS)
    assert counts[1, 1].tolist() == [1, 2, 1, 1]
    assert counts[1, 3].tolist() == [1, 8, 3, 0]
    assert counts[1].sum(0).tolist() == [2, 10, 4, 1]
    assert counts[0, 5].tolist() == [1, 38, 0, 0]
    assert not counts[2].any()
    assert counts.shape == (3, SIZES, 4)


@pytest.mark.parametrize("seed", range(4))
def test_regions_hold_every_valid_pixel_once(seed):
    mask = blobs(seed)
    correct = (np.random.default_rng(seed).random(mask.shape) < 0.6) & (mask != 255)
    counts = region_counts(mask, correct, LABELS)
    for ids in range(3):
        assert counts[ids, :, 1].sum() == (mask == ids).sum()
        assert counts[ids, :, 2].sum() == (correct & (mask == ids)).sum()
        assert counts[ids, :, 0].sum() == len(flooded(mask == ids))


def flooded(where):
    """The sizes of the regions, by flooding one after the other."""
    left = set(map(tuple, np.argwhere(where)))
    sizes = []
    while left:
        front, size = [left.pop()], 0
        while front:
            y, x = front.pop()
            size += 1
            for dy, dx in itertools.product((-1, 0, 1), repeat=2):
                if (y + dy, x + dx) in left:
                    left.remove((y + dy, x + dx))
                    front.append((y + dy, x + dx))
        sizes.append(size)
    return sizes


@pytest.mark.parametrize("size", [(37, 52), (3, 5), (8, 12)])
def test_positions_are_relative_to_the_image(size):
    rng = np.random.default_rng(0)
    valid, wrong = rng.random(size) < 0.9, rng.random(size) < 0.3
    counts = position_counts(valid, wrong & valid)
    expected = np.zeros((*GRID, 2), dtype=int)
    for y, x in itertools.product(range(size[0]), range(size[1])):
        cell = (int(y / size[0] * GRID[0]), int(x / size[1] * GRID[1]))
        expected[cell] += (valid[y, x], valid[y, x] and wrong[y, x])
    assert (counts == expected).all()


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_a_cost_is_the_iou_with_these_pixels_right(seed, classes):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 60, (classes, classes)) * (rng.random((classes, classes)) < 0.6)
    before = float(headline(iou(matrix)))
    costs = confusion_costs(matrix)
    assert len(costs) == (matrix > 0).sum() - (np.diagonal(matrix) > 0).sum()
    for cost in costs:
        better = matrix.copy()
        better[cost.truth, cost.truth] += cost.pixels
        better[cost.truth, cost.prediction] = 0
        assert cost.pixels == matrix[cost.truth, cost.prediction]
        gain = float(headline(iou(better))) - before
        assert cost.gain == pytest.approx(gain, nan_ok=True)
    gains = [cost.gain for cost in costs if np.isfinite(cost.gain)]
    assert gains == sorted(gains, reverse=True)


def test_few_pixels_of_a_rare_class_may_cost_more_than_many():
    matrix = np.array([[900, 100, 0], [0, 900, 0], [20, 0, 20]])
    first, second = confusion_costs(matrix)
    assert (first.truth, first.prediction, first.pixels) == (2, 0, 20)
    assert (second.truth, second.prediction, second.pixels) == (0, 1, 100)


def test_the_heaviest_images_hold_most_of_a_confusion():
    matrices = np.zeros((5, 2, 2), dtype=np.int64)
    matrices[:, 1, 0] = [3, 0, 9, 3, 0]
    cost = Cost(truth=1, prediction=0, pixels=15, gain=0.1)
    assert heaviest(matrices, cost, most=3) == [(2, 9), (0, 3), (3, 3)]
    assert heaviest(matrices, cost, most=9) == [(2, 9), (0, 3), (3, 3)]


# What is counted of each image.


def seen(seed, labels, *, height=30, width=41):
    torch.manual_seed(seed)
    logits = 3 * torch.randn(labels.num_logits, height, width)
    truth = blobs(seed, height, width)
    truth[(truth >= labels.num_classes) & (truth != 255)] = 0
    mask = torch.from_numpy(truth)
    sample = Sample(
        image=tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8)),
        mask=tv_tensors.Mask(mask),
        name=f"image-{seed}",
    )
    return Seen(sample=sample, truth=mask, logits=logits, ids=labels.decode(logits[None])[0])


@pytest.mark.parametrize("labels", [LABELS, BINARY], ids=["classes", "binary"])
def test_every_count_tells_of_the_same_pixels(labels):
    tally = Tally(labels=labels, temperatures=(1.0, 2.0))
    images = [seen(seed, labels) for seed in range(4)]
    for image in images:
        tally(image)
    for place, image in enumerate(images):
        truth, ids = image.truth.numpy(), image.ids.numpy()
        valid = truth != 255
        wrong = int((valid & (truth != ids)).sum())
        pixels = int(valid.sum())
        assert tally.borders[place].sum(0).tolist() == [pixels, wrong]
        for counts in tally.reliability[place]:
            assert counts[:, 0].sum() == pixels
            assert counts[:, 2].sum() == pixels - wrong
    total = np.sum(tally.borders, axis=0).sum(0).tolist()
    assert tally.positions.sum((0, 1)).tolist() == total
    assert tally.regions_per_class[..., 1].sum() == total[0]
    assert tally.regions_per_class[..., 2].sum() == total[0] - total[1]
    assert (tally.reliability_per_class.sum(1) == np.sum(tally.reliability, axis=0)).all()


@pytest.mark.parametrize("labels", [LABELS, BINARY], ids=["classes", "binary"])
@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_confidence_is_the_probability_of_what_is_predicted(labels, temperature):
    image = seen(3, labels)
    found = confidences(image.logits, labels, temperature)
    z = image.logits.double() / temperature
    full = torch.stack((torch.zeros_like(z[0]), z[0])) if labels is BINARY else z
    expected = full.softmax(0).gather(0, image.ids[None].long())[0]
    torch.testing.assert_close(torch.from_numpy(found).double(), expected, atol=1e-6, rtol=0)


def test_tallies_merge_in_any_order_to_the_bit():
    whole, parts = Tally(labels=LABELS), [Tally(labels=LABELS) for _ in range(3)]
    for seed in range(6):
        whole(seen(seed, LABELS))
        parts[seed % 3](seen(seed, LABELS))
    for order in itertools.permutations(parts):
        merged = order[0].merge(order[1]).merge(order[2])
        assert merged.names == whole.names
        for key in ("reliability", "borders", "regions"):
            assert (np.stack(getattr(merged, key)) == np.stack(getattr(whole, key))).all()
        for key in ("reliability_per_class", "regions_per_class", "positions"):
            assert (getattr(merged, key) == getattr(whole, key)).all()


def test_an_image_leaves_a_few_hundred_numbers():
    tally = Tally(labels=LABELS, temperatures=(1.0, 2.0))
    for seed in range(3):
        tally(seen(seed, LABELS, height=60, width=90))
    rows = [*tally.reliability, *tally.borders, *tally.regions]
    assert sum(row.nbytes for row in rows) < 3 * 2048
    assert all(row.base is None or row.base.nbytes < 2048 for row in rows)  # no view of an image


def test_intervals_do_not_depend_on_the_order_of_the_images():
    forth, back = Tally(labels=LABELS), Tally(labels=LABELS)
    for seed in range(7):
        forth(seen(seed, LABELS))
        back(seen(6 - seed, LABELS))
    assert summary.borders(forth)[0].interval is not None
    assert summary.borders(forth) == summary.borders(back)
    assert summary.sizes(forth) == summary.sizes(back)
    assert summary.calibration(forth, 0) == summary.calibration(back, 0)


def test_what_few_images_have_has_no_interval():
    tally = Tally(labels=LABELS)
    for seed in range(7):
        tally(seen(seed, LABELS))
    for row in tally.borders:
        row[5] = 0
    for row in tally.borders[:4]:
        row[5] = (8, 1)
    for item, holding in zip(
        summary.borders(tally), (np.stack(tally.borders)[..., 0] > 0).sum(0), strict=True
    ):
        assert (item.interval is not None) == (holding >= 5)
    assert summary.borders(tally)[5].rate == 1 / 8


def test_an_interval_holds_the_rate_and_shrinks_with_more_images():
    few, many = Tally(labels=LABELS), Tally(labels=LABELS)
    for seed in range(40):
        many(seen(seed, LABELS))
        if seed < 6:
            few(seen(seed, LABELS))
    for bins in (summary.borders(few), summary.borders(many)):
        for item in bins:
            if item.interval is not None:
                assert item.interval[0] <= item.rate <= item.interval[1]
    widths = [np.ptp(summary.borders(tally)[0].interval) for tally in (few, many)]
    assert widths[1] < widths[0]


def test_the_pixels_drawn_depend_on_the_image_alone():
    alone, after = (Sampled(labels=LABELS, most=50, seed=0) for _ in range(2))
    alone(seen(2, LABELS))
    for seed in (5, 1, 2):
        after(seen(seed, LABELS))
    assert (alone.logits[0] == after.logits[2]).all()
    assert (alone.truth[0] == after.truth[2]).all()
    valid = int((seen(2, LABELS).truth != 255).sum())
    assert alone.weights[0].sum() == pytest.approx(valid)
    assert len(alone.truth[0]) == 50
    other = Sampled(labels=LABELS, most=50, seed=1)
    other(seen(2, LABELS))
    assert (other.logits[0] != alone.logits[0]).any()


def test_all_pixels_are_drawn_where_there_is_room():
    image = seen(2, LABELS)
    drawn = Sampled(labels=LABELS, most=10_000, seed=0)
    drawn(image)
    valid = image.truth != 255
    assert (drawn.logits[0] == image.logits[:, valid].T.numpy()).all()
    assert (drawn.truth[0] == image.truth[valid].numpy()).all()
    assert (drawn.weights[0] == 1).all()
