"""What tells what may be done to images, held against closed cases and plain loops."""

import numpy as np
import pytest

from truemask.analysis.survey_counts import Counts, merged
from truemask.analysis.survey_traits import (
    CELLS,
    LEVELS,
    WHOLE,
    asymmetry,
    edge_sides,
    mean_colours,
    told_by_colour,
)
from truemask.channels import ChannelSums
from truemask.datasets.measuring import spot_step
from truemask.labels import LabelMap
from truemask.regions import Runs

LABELS = LabelMap(names=("sky", "road", "pole"), values={0: 0, 1: 1, 2: 2, 255: 255})
NOTHING = ChannelSums.empty(3)


def counts_of(mask: np.ndarray, name: str = "one") -> Counts:
    return Counts.of(mask, NOTHING, name=name, labels=LABELS)


def changed(masks: list[np.ndarray], axis: int) -> float:
    whole = merged([counts_of(mask) for mask in masks], 3, 3)
    return asymmetry(whole.shares, whole.changes[axis - 1], axis=axis, images=len(masks))


def street(pole: int) -> np.ndarray:
    mask = np.zeros((48, 60), np.uint8)
    mask[24:] = 1
    mask[:24, pole : pole + 3] = 2
    return mask


def test_the_width_of_a_long_stripe_is_its_width() -> None:
    for width in (1, 3, 7):
        mask = np.zeros((200, 40), np.uint8)
        mask[:, 10 : 10 + width] = 1
        upright, level = edge_sides(Runs.of(mask), 2)
        assert list(level) == [0, 0]
        assert 2 * (mask == 1).sum() / upright[1] == width


def test_the_edges_of_a_square_are_its_four_sides_also_when_it_is_turned() -> None:
    mask = np.zeros((20, 23), np.uint8)
    mask[5:11, 5:13] = 1
    assert edge_sides(Runs.of(mask), 2).tolist() == [[12, 12], [16, 16]]
    assert edge_sides(Runs.of(np.rot90(mask)), 2).tolist() == [[16, 16], [12, 12]]


def test_ignored_pixels_bound_a_class() -> None:
    mask = np.zeros((10, 30), np.uint8)
    mask[:, 10:20] = 255
    assert edge_sides(Runs.of(mask), 1).tolist() == [[20], [0]]


@pytest.mark.parametrize("size", [(37, 53), (64, 64), (16, 200)])
def test_cells_are_shares_of_what_is_labelled(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    mask = random.choice(np.array([0, 1, 2, 255], np.uint8), size)
    found = counts_of(mask)
    for row in range(CELLS):
        for column in range(CELLS):
            rows = [y for y in range(size[0]) if y * CELLS // size[0] == row]
            columns = [x for x in range(size[1]) if x * CELLS // size[1] == column]
            inside = mask[np.ix_(rows, columns)]
            labelled = max(int((inside < 255).sum()), 1)
            expected = [int((inside == k).sum()) * WHOLE // labelled for k in range(3)]
            assert found.shares[:, row, column].tolist() == expected
    for axis in (1, 2):
        square = (found.shares - np.flip(found.shares, axis)) ** 2
        assert np.array_equal(found.changes[axis - 1], square)
    assert not counts_of(np.full((24, 24), 255, np.uint8)).shares.any()


def test_a_street_has_an_up_and_noise_has_none() -> None:
    streets = [street(pole) for pole in range(0, 57, 3)]
    assert changed(streets, 1) > 0.7
    assert changed(streets, 2) < 0.05
    random = np.random.default_rng(0)
    noise = [random.integers(0, 2, (24, 24)).astype(np.uint8) for _ in range(30)]
    assert changed(noise, 1) < 0.02


def test_what_chance_makes_is_that_of_images_flipped_by_the_toss_of_a_coin() -> None:
    random = np.random.default_rng(1)
    masks = []
    for _ in range(60):  # a blob anywhere
        mask = np.zeros((48, 48), np.uint8)
        y, x = random.integers(0, 32, 2)
        mask[y : y + 16, x : x + 16] = 1
        masks.append(mask)
    each = np.stack([counts_of(mask).shares for mask in masks]) / WHOLE
    half = (each - each[:, :, ::-1]) / 2
    tossed = [
        np.abs(np.tensordot(random.choice([-1.0, 1.0], 60), half, 1)).sum(0).mean() / 60
        for _ in range(2000)
    ]
    squares = ((2 * half * WHOLE) ** 2).sum(0).astype(np.int64)
    # Of a map that changes wholly when it is flipped, what chance makes is what is missing to 1.
    sums = np.zeros_like(squares)
    sums[0, :8] = sums[1, 8:] = 60 * WHOLE
    assert asymmetry(sums, np.zeros_like(squares), axis=1, images=60) == 1.0
    found = 1 - asymmetry(sums, squares, axis=1, images=60)
    assert found == pytest.approx(np.mean(tossed), rel=0.05)


def test_chance_is_taken_off_however_few_images_there_are() -> None:
    random = np.random.default_rng(1)
    found = []
    for _ in range(20):  # one blob anywhere in each of 5 images
        masks = np.zeros((5, 24, 24), np.uint8)
        for mask in masks:
            y, x = random.integers(0, 16, 2)
            mask[y : y + 8, x : x + 8] = 1
        found.append(changed(list(masks), 1))
    assert np.mean(found) < 0.05


def test_mean_colours_are_those_of_the_pixels_at_the_spots() -> None:
    random = np.random.default_rng(0)
    ids = random.choice(np.array([0, 2, 255], np.uint8), (300, 310))
    step = spot_step(300, 310)
    assert step == 3
    image = random.integers(0, 256, (300, 310, 3), dtype=np.uint8)
    spots = image[1::3, 1::3][:100, :103]
    found = mean_colours(ids, spots, 3)
    for k in (0, 2):
        own = spots[ids[1::3, 1::3][:100, :103] == k].astype(int)
        level = tuple(int(channel.sum()) // len(own) * LEVELS // 256 for channel in own.T)
        assert found[k, *level] == 1
    assert found.total() == 2
    assert not mean_colours(ids, None, 3)


def leave_one_out(regions: dict[tuple[int, ...], int], classes: int) -> list[float | None]:
    """The rule by a loop over single regions."""
    each = [colour for colour, images in regions.items() for _ in range(images)]
    values = np.array([colour[1:] for colour in each], float)
    owners = np.array([colour[0] for colour in each])
    values /= np.maximum(values.std(0), 1e-9)
    usable = [k for k in range(classes) if (owners == k).sum() >= 2]
    if len(usable) < 2:
        return [None] * classes
    right: dict[int, list[bool]] = {k: [] for k in usable}
    for place, k in enumerate(owners.tolist()):
        if k in right:
            others = np.arange(len(each)) != place
            means = [values[others & (owners == other)].mean(0) for other in usable]
            distances = [((values[place] - mean) ** 2).sum() for mean in means]
            right[k].append(usable[int(np.argmin(distances))] == k)
    return [float(np.mean(right[k])) if k in right else None for k in range(classes)]


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_mean_is_that_of_all_other_images(seed: int) -> None:
    random = np.random.default_rng(seed)
    regions: dict[tuple[int, ...], int] = {}
    for _ in range(60):
        k = int(random.integers(0, 4))
        colour = np.clip(random.normal(8 + 5 * k, 6, 3), 0, LEVELS - 1).astype(int)
        key = (k, *colour.tolist())
        regions[key] = regions.get(key, 0) + int(random.integers(1, 3))
    regions[4, 3, 3, 3] = 1  # in one image only
    found, known = told_by_colour(regions, 6), leave_one_out(regions, 6)
    assert [value is None for value in found] == [value is None for value in known]
    assert [v for v in found if v is not None] == pytest.approx([v for v in known if v is not None])


def test_colour_tells_all_where_it_is_the_class() -> None:
    assert told_by_colour({(0, 1): 5, (1, 20): 9, (2, 30): 4}, 3) == [1.0, 1.0, 1.0]
    assert told_by_colour({(0, 1): 5, (1, 20): 1}, 3) == [None, None, None]
    assert told_by_colour({}, 2) == [None, None]
