"""Amounts of classes in parts, against chance and against simulated scores."""

import numpy as np
import pytest

from truemask.checks.finding import Finding
from truemask.checks.parts import (
    ERROR_RATE,
    Contents,
    compare_contents,
    half_width_of_mean,
    half_widths,
    other_distribution,
    too_small,
)

NAMES = ("road", "sky", "tree", "rare")


def _images(count: int, seed: int, *, tilt: float = 0.0, rare: float = 0.2) -> np.ndarray:
    """Pixels of four classes; `tilt` moves road to tree."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet((6 - 4 * tilt, 3, 3 + 4 * tilt), count)
    some = generator.uniform(0, 0.03, (count, 1)) * (generator.random((count, 1)) < rare)
    return (10_000 * np.concatenate([shares * (1 - some), some], axis=1)).astype(np.int64)


def _contents(pixels: np.ndarray, clusters: np.ndarray | None = None) -> Contents:
    groups = np.arange(len(pixels)) if clusters is None else clusters
    return Contents(pixels=pixels, clusters=groups, total=len(pixels))


def _other(**parts: Contents) -> list[Finding]:
    return other_distribution(parts, train="train", class_names=NAMES)


def test_random_divisions_are_reported_no_more_often_than_is_said() -> None:
    images, generator = _images(200, 0), np.random.default_rng(1)
    reported = 0
    for _ in range(100):
        train, val, test = np.split(generator.permutation(images), (140, 170))
        reported += bool(_other(train=_contents(train), val=_contents(val), test=_contents(test)))
    assert reported <= 3  # Of 100 at 0.3 %: more than 3 has a probability of 1 in 3,000.
    assert ERROR_RATE <= 0.01


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    images, generator = _images(80, 2, rare=0.05), np.random.default_rng(3)
    p_values = []
    for seed in range(120):
        train, part = np.split(generator.permutation(images), (68,))
        found = compare_contents(_contents(train), _contents(part), seed=seed)
        p_values.append(found.p_value.min())
    assert np.mean(np.array(p_values) <= 0.1) <= 0.2


def test_a_part_with_other_content_is_found_and_its_classes_named() -> None:
    (found,) = _other(train=_contents(_images(200, 4)), test=_contents(_images(60, 5, tilt=0.8)))
    assert (found.code, found.level, found.where) == ("TM204", "warning", "test")
    assert "tree" in found.evidence["classes"]
    assert found.evidence["classes"]["tree"]["p_value"] <= ERROR_RATE


def test_a_difference_of_a_standard_deviation_matters_without_half_as_much_again() -> None:
    """As where images were sorted by how large their object is: 24 % against 21 % of the pixels."""
    generator = np.random.default_rng(0)
    shares = [np.clip(generator.normal(mean, 0.03, 80), 0.1, 0.4) for mean in (0.21, 0.24)]
    parts = [
        _contents((10_000 * np.stack([1 - share, share], 1)).astype(np.int64)) for share in shares
    ]
    (found,) = other_distribution(
        {"train": parts[0], "val": parts[1]}, train="train", class_names=("rest", "car")
    )
    assert found.code == "TM204"


def test_a_small_difference_of_large_parts_does_not_matter() -> None:
    train, part = _contents(_images(5000, 6)), _contents(_images(5000, 7, tilt=0.05))
    means = [one.shares.mean(0) for one in (train, part)]
    deviation = np.hypot(*(one.shares.std(0) / np.sqrt(len(one)) for one in (train, part)))
    assert (np.abs(means[0] - means[1]) / deviation).max() > 4  # Beyond chance, and yet
    assert not _other(train=train, val=part)


def test_frames_of_one_clip_count_as_one() -> None:
    frames = np.repeat(_images(3, 8, tilt=1.0), 30, axis=0)
    train = _contents(_images(40, 9))
    alone, grouped = _contents(frames), _contents(frames, np.repeat(np.arange(3), 30))
    p_alone = compare_contents(train, alone).p_value.min()
    p_grouped = compare_contents(train, grouped).p_value.min()
    assert p_alone < 0.001 < p_grouped


@pytest.mark.parametrize("images", [8, 40, 200])
def test_half_widths_are_those_of_simulated_scores(images: int) -> None:
    generator = np.random.default_rng(images)
    pixels = _images(images, images)
    part = _contents(pixels)
    iou = 0.6 + 0.2 * generator.normal(size=(3000, images, 4))
    scores = (iou * pixels).sum(1) / np.maximum(pixels.sum(0), 1)
    present = pixels.sum(0) > 0
    np.testing.assert_allclose(half_widths(part)[present], 1.96 * scores.std(0)[present], rtol=0.1)
    assert np.isnan(half_widths(part)[~present]).all()


def test_a_handful_of_images_is_too_small_and_fifty_are_not() -> None:
    train = _contents(_images(50, 1))
    few, many = _contents(_images(4, 2, rare=1.0)), _contents(_images(50, 3, rare=0.5))
    (found,) = too_small({"train": train, "val": few}, train="train", class_names=NAMES)
    assert (found.code, found.level, found.where) == ("TM205", "warning", "val")
    assert found.evidence["images"] == 4
    assert not too_small({"train": train, "val": many}, train="train", class_names=NAMES)


def _one_class_an_image(images: int, classes: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pixels = np.zeros((images, classes), np.int64)
    pixels[np.arange(images), np.arange(images) % classes] = generator.integers(500, 1500, images)
    return pixels


def test_the_mean_of_many_uncertain_classes_is_certain_enough() -> None:
    """As in VOC: each image shows one of 20 objects, so that each class has but a few images."""
    names = tuple("abcdefghijklmnopqrst")
    part = _contents(_one_class_an_image(100, 20, 0))
    (found,) = too_small({"train": part, "val": part}, train="train", class_names=names)
    assert (found.code, found.level) == ("TM205", "note")
    assert np.median(half_widths(part)) > 0.15 > half_width_of_mean(part, range(20))
    few = _contents(_one_class_an_image(6, 3, 1))
    (found,) = too_small({"train": part, "val": few}, train="train", class_names=names[:3])
    assert found.level == "warning"


@pytest.mark.parametrize("images", [8, 40])
def test_the_half_width_of_the_mean_is_that_of_simulated_scores(images: int) -> None:
    """Where an image is as hard for each of its classes, and no less where it is not."""
    generator = np.random.default_rng(images)
    pixels = _images(images, images, rare=1.0)
    part = _contents(pixels)
    bound = half_width_of_mean(part, range(4))
    for classes in (1, 4):
        iou = 0.6 + 0.2 * generator.normal(size=(3000, images, classes))
        mean = ((iou * pixels).sum(1) / pixels.sum(0)).mean(1)
        width = 1.96 * mean.std()
        assert width <= 1.05 * bound
        if classes == 1:
            np.testing.assert_allclose(width, bound, rtol=0.05)


def test_a_class_in_two_images_gives_a_note() -> None:
    pixels = _images(60, 4, rare=0.0)
    pixels[[7, 31], 3] = 50
    parts = {"train": _contents(_images(60, 5)), "val": _contents(pixels)}
    (found,) = too_small(parts, train="train", class_names=NAMES)
    assert found.level == "note"
    assert "rare (2)" in found.message


def test_the_training_part_and_empty_parts_are_not_judged() -> None:
    parts = {"train": _contents(_images(3, 1)), "val": _contents(np.zeros((0, 4), np.int64))}
    assert not too_small(parts, train="train", class_names=NAMES)
    assert not other_distribution(parts, train="train", class_names=NAMES)
