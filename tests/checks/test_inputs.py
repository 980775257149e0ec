"""Images like and unlike those of a training."""

import json

import numpy as np
import pytest

from truemask.checks.inputs import Known, check_input, describe_images
from truemask.errors import UsageError


def image(seed: int, *, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    light = rng.uniform(0.8, 1.2)
    base = np.linspace(60, 160, size[0])[:, None, None] * np.array([1.0, 0.95, 0.9]) * light
    pixels = base + rng.normal(0, 12, (*size, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def known() -> Known:
    return describe_images(image(seed) for seed in range(60))


def test_images_of_the_same_kind_are_not_reported(known: Known) -> None:
    assert sum(bool(check_input(image(seed), known)) for seed in range(100, 200)) <= 2


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: 255 - pixels,
        lambda pixels: (pixels * 0.2).astype(np.uint8),
        lambda pixels: pixels * np.array([1, 0, 0], np.uint8),
        lambda pixels: np.full_like(pixels, 255),
        lambda pixels: np.random.default_rng(0).integers(0, 256, pixels.shape).astype(np.uint8),
        lambda pixels: pixels.astype(np.float32) / 255,
        lambda pixels: pixels[..., :1],
        lambda pixels: np.repeat(np.repeat(pixels, 8, 0), 8, 1),
    ],
)
def test_images_of_another_kind_are(known: Known, change) -> None:
    (finding,) = check_input(change(image(500)), known, name="new.png")
    assert (finding.code, finding.where) == ("TM701", "new.png")


def test_parts_merge_to_the_whole_and_are_json(known: Known) -> None:
    halves = [describe_images(image(s) for s in part) for part in (range(35), range(20, 60))]
    assert halves[0].merge(halves[1]) == known == halves[1].merge(halves[0])
    assert Known.from_json(json.loads(json.dumps(known.to_json()))) == known
    with pytest.raises(UsageError, match="description"):
        Known.from_json({"features": 3})


def test_few_images_say_nothing() -> None:
    assert check_input(255 - image(0), describe_images([image(1), image(2)])) == []
    with pytest.raises(UsageError, match="no images"):
        describe_images([])
