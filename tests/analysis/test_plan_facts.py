"""What a plan sees of a dataset, held against closed cases."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from truemask.analysis.plan_facts import (
    GRID,
    asymmetry,
    class_cells,
    colour_accuracy,
    edge_lengths,
    gather_facts,
)
from truemask.datasets.sample import Sample
from truemask.images import RGB
from truemask.labels import LabelMap

LABELS = LabelMap(names=("sky", "road", "pole"), values={0: 0, 1: 1, 2: 2})


class Streets:
    """Sky above, road below, a pole of three pixels somewhere in the sky."""

    labels, images = LABELS, RGB

    def __init__(self, masks: list[np.ndarray]) -> None:
        self.masks = masks
        self.names = [str(i) for i in range(len(masks))]

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Sample:
        mask = torch.from_numpy(self.masks[index])
        colours = torch.tensor([[0, 0, 250], [90, 90, 90], [90, 90, 90]], dtype=torch.uint8)
        image = colours[mask.long().clamp(max=2)].permute(2, 0, 1)
        return Sample(
            image=tv_tensors.Image(image), mask=tv_tensors.Mask(mask), name=self.names[index]
        )


def street(pole: int) -> np.ndarray:
    mask = np.zeros((48, 60), np.uint8)
    mask[24:] = 1
    mask[:24, pole : pole + 3] = 2
    return mask


def test_the_thickness_of_a_long_stripe_is_its_width() -> None:
    for width in (1, 3, 7):
        mask = np.zeros((200, 40), np.uint8)
        mask[:, 10 : 10 + width] = 1
        upright, level = edge_lengths(mask, 2)
        assert list(level) == [0, 0]
        assert 2 * (mask == 1).sum() / upright[1] == width


def test_the_edges_of_a_square_are_its_four_sides() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5:11, 5:11] = 1
    upright, level = edge_lengths(mask, 2)
    assert list(upright) == [12, 12]
    assert list(level) == [12, 12]
    turned_upright, turned_level = edge_lengths(np.rot90(mask), 2)
    assert list(turned_upright) == list(level)
    assert list(turned_level) == list(upright)


def test_ignored_pixels_bound_a_class() -> None:
    mask = np.zeros((10, 30), np.uint8)
    mask[:, 10:20] = 255
    upright, _ = edge_lengths(mask, 1)
    assert upright[0] == 20


def test_cells_are_shares_of_what_is_labelled() -> None:
    random = np.random.default_rng(0)
    mask = random.integers(0, 3, (37, 53)).astype(np.uint8)
    cells = class_cells(mask, 3)
    assert cells.shape == (3, GRID, GRID)
    assert np.allclose(cells.sum(0), 1)
    whole = np.full((24, 24), 255, np.uint8)
    assert class_cells(whole, 3).sum() == 0


def test_a_street_has_an_up_and_noise_has_none() -> None:
    streets = np.stack([class_cells(street(p), 3) for p in range(0, 57, 3)])
    assert asymmetry(streets, axis=2) > 0.7
    assert asymmetry(streets, axis=3) < 0.05
    random = np.random.default_rng(0)
    noise = np.stack(
        [class_cells(random.integers(0, 2, (24, 24)).astype(np.uint8), 2) for _ in range(30)]
    )
    assert asymmetry(noise, axis=2) < 0.02


def test_chance_is_taken_off_however_few_images_there_are() -> None:
    random = np.random.default_rng(1)
    found = []
    for _ in range(20):  # one blob anywhere in each of 5 images
        masks = np.zeros((5, 24, 24), np.uint8)
        for mask in masks:
            y, x = random.integers(0, 16, 2)
            mask[y : y + 8, x : x + 8] = 1
        found.append(asymmetry(np.stack([class_cells(m, 2) for m in masks]), axis=2))
    assert np.mean(found) < 0.05


def test_colour_tells_all_where_it_is_the_class_and_chance_where_it_is_not() -> None:
    random = np.random.default_rng(0)
    present = np.ones((50, 3), bool)
    own = np.array([[0.0], [100.0], [200.0]])
    assert colour_accuracy(own + random.normal(0, 5, (50, 3, 1)), present) == 1.0
    free = colour_accuracy(random.normal(0, 5, (50, 3, 1)), present)
    assert free is not None
    assert free == pytest.approx(1 / 3, abs=0.15)
    assert colour_accuracy(np.zeros((50, 3, 1)), present & [True, False, False]) is None


def test_facts_of_streets() -> None:
    facts = gather_facts(Streets([street(p) for p in range(0, 57, 3)]))  # type: ignore[arg-type]
    assert (facts.images, facts.height, facts.width) == (19, 48, 60)
    assert list(facts.classes) == list(LABELS.names)
    assert facts.classes["pole"].share == pytest.approx(3 * 24 / (48 * 60))
    assert facts.classes["road"].present == 1.0
    thinnest = facts.thinnest
    assert thinnest is not None
    assert thinnest[0] == "pole"
    assert thinnest[1] == pytest.approx(3, abs=0.4)
    # Road and pole have one colour, the sky another.
    assert facts.colour is not None
    assert 1 / 3 < facts.colour < 0.9


def test_at_most_so_many_samples_are_looked_at_the_same_ones_again() -> None:
    streets = Streets([street(p % 57) for p in range(100)])
    one, two = (gather_facts(streets, limit=10, seed=3) for _ in range(2))  # type: ignore[arg-type]
    assert one.looked_at == 10
    assert one == two
    assert one.images == 100
