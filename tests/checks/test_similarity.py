import numpy as np
import pytest
import torch
from part_material import altered, randomly_altered, scene

from truemask.checks import similarity
from truemask.checks.registration import align
from truemask.checks.similarity import (
    LEAST,
    UPRIGHT,
    VIEWS,
    WHOLE,
    Symmetry,
    search,
    spectrum,
    thumbnail,
    transform,
)


def _brute_force(first: np.ndarray, second: np.ndarray, window: int = 1024) -> np.ndarray:
    """The similarity of every pair in float64: windows by numerical integration, one by one."""
    steps = (np.arange(window) + 0.5) / window
    waves = (
        np.cos(np.pi * np.arange(8)[:, None] * steps)
        * np.where(np.arange(8) > 0, 2, 1)[:, None] ** 0.5
    )

    def described(image: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
        rows = ((edges[0] + (edges[1] - edges[0]) * steps) * 64).astype(int)
        columns = ((edges[2] + (edges[3] - edges[2]) * steps) * 64).astype(int)
        down = np.stack([np.bincount(rows, wave / window, 64) for wave in waves])
        right = np.stack([np.bincount(columns, wave / window, 64) for wave in waves])
        found = down @ (image.astype(np.float64) - image.mean(dtype=np.float64)) @ right.T
        found *= np.hypot(*np.mgrid[:8, :8])
        length = np.linalg.norm(found)
        return found / length if length > 1e-9 else np.zeros_like(found)

    best = np.full((len(first), len(second)), -1.0)
    for view in VIEWS:
        ours_in, theirs_in = WHOLE, view.window
        if view.second_is_whole:
            ours_in, theirs_in = view.window, WHOLE
        ours = [described(image, ours_in) for image in first]
        theirs = [described(view.symmetry.of(image), theirs_in) for image in second]
        products = np.einsum("nij,mij->nm", np.stack(ours), np.stack(theirs))
        best = np.maximum(best, products)
    return best


def _thumbnails(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([thumbnail(image) for image in images])


@pytest.mark.parametrize("block", [3, 2048])
def test_the_search_finds_every_pair_that_brute_force_finds(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity, "_BLOCK", block)
    images = [scene(seed) for seed in range(6)]
    first = _thumbnails([*images, np.full((50, 40, 3), 200, np.uint8)])
    copies = [randomly_altered(image, seed) for seed, image in enumerate(images)]
    second = _thumbnails([*copies[::-1], scene(50), np.full((50, 40, 3), 200, np.uint8)])
    expected = _brute_force(first, second)
    for least in (0.8, 0.5, 0.2):
        found = search(first, second, least=least)
        pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
        surely = set(zip(*np.nonzero(expected >= least + 5e-3), strict=True))
        perhaps = set(zip(*np.nonzero(expected >= least - 5e-3), strict=True))
        assert surely <= pairs <= perhaps
        assert len(pairs) == len(found) == found.total
        np.testing.assert_allclose(found.similarity, expected[found.first, found.second], atol=5e-3)
    assert {(i, 5 - i) for i in range(6)} <= surely


def test_of_very_many_pairs_the_most_alike_are_listed_and_all_counted() -> None:
    images = _thumbnails([scene(1), scene(2)] * 20)
    found = search(images, images, most=100)
    assert found.total == 800
    assert len(found) == 100
    assert (np.diff(found.similarity) <= 0).all()


def test_nothing_is_compared_with_an_empty_part() -> None:
    some, none = _thumbnails([scene(1)]), np.zeros((0, 64, 64), np.float32)
    assert len(search(some, none)) == len(search(none, some)) == 0


def test_an_image_without_structure_is_like_no_other() -> None:
    level = [np.full((30, 40, 3), value, np.uint8) for value in (0, 77, 255)]
    images = _thumbnails(level)
    assert len(search(images, images, least=-0.5)) == 9
    assert np.allclose(search(images, images, least=-0.5).similarity, 0)
    as_float = thumbnail(np.full((30, 40, 1), 0.1, np.float32))
    assert np.ptp(as_float) == 0


@pytest.mark.parametrize(
    "symmetry", [Symmetry(*map(bool, (n & 1, n & 2, n & 4))) for n in range(8)]
)
def test_turned_images_are_found_as_turned(symmetry: Symmetry) -> None:
    image = scene(3, 64, 64)
    turned = np.stack([symmetry.of(image[..., c]) for c in range(3)], axis=2)
    # A turn by 90 degrees is undone by the opposite one; all others undo themselves.
    undone = {"turned by 90 degrees to the left": "turned by 90 degrees to the right"}
    undone |= {right: left for left, right in undone.items()}
    found = search(_thumbnails([image]), _thumbnails([turned]))
    assert str(VIEWS[found.view[0]].symmetry) == undone.get(str(symmetry), str(symmetry))
    assert found.similarity[0] == pytest.approx(1, abs=1e-4)
    assert align(_thumbnails([image]), _thumbnails([turned]), found).same.all()


def test_names_of_turns_are_those_of_numpy() -> None:
    image = np.arange(6).reshape(2, 3)
    expected = {
        "": image,
        "mirrored": np.fliplr(image),
        "mirrored top to bottom": np.flipud(image),
        "turned by 180 degrees": np.rot90(image, 2),
        "mirrored at its diagonal": image.T,
        "turned by 90 degrees to the left": np.rot90(image, 1),
        "turned by 90 degrees to the right": np.rot90(image, -1),
        "mirrored at its other diagonal": np.rot90(image, 2).T,
    }
    for n in range(8):
        symmetry = Symmetry(bool(n & 1), bool(n & 2), bool(n & 4))
        np.testing.assert_array_equal(symmetry.of(image), expected.pop(str(symmetry)))
    assert not expected


def test_coefficients_of_the_whole_are_the_cosine_transform_of_the_cells() -> None:
    """Against the definition of the cosine transform, by quadrature within each cell."""
    low, high = np.array([0.0, 0.11]), np.array([1.0, 0.93])
    fine = (np.arange(64 * 1000) + 0.5) / 64000
    for edges, matrix in zip(zip(low, high, strict=True), transform(low, high, 24), strict=True):
        inside = (fine >= edges[0]) & (fine < edges[1])
        places = (fine - edges[0]) / (edges[1] - edges[0])
        waves = np.cos(np.pi * np.arange(24)[:, None] * places)
        waves[1:] *= np.sqrt(2)
        integral = (waves * inside).reshape(24, 64, 1000).sum(2) / 64000 / (edges[1] - edges[0])
        np.testing.assert_allclose(matrix, integral, atol=1e-4)


def test_brightness_and_contrast_do_not_count() -> None:
    cells = thumbnail(scene(4)).astype(np.float64)
    whole = np.array([WHOLE])
    before, after = (spectrum(image[None], whole, 8)[0] for image in (cells, 3 * cells + 40))
    np.testing.assert_allclose(after, 3 * before, atol=1e-6)


def test_thumbnails_are_means_of_cells_whatever_the_kind_of_image() -> None:
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (128, 192, 1), dtype=np.uint8)
    expected = grey[..., 0].reshape(64, 2, 64, 3).mean((1, 3))
    np.testing.assert_allclose(thumbnail(grey), expected, atol=1e-3)
    np.testing.assert_allclose(thumbnail(grey.astype(np.float32) / 255), expected / 255, atol=1e-5)
    rgb = np.repeat(grey, 3, axis=2)
    np.testing.assert_allclose(thumbnail(rgb), expected, atol=1e-3)
    np.testing.assert_allclose(thumbnail(rgb.astype(np.float32)), expected, atol=1e-2)
    many = np.repeat(grey, 7, axis=2)
    np.testing.assert_allclose(thumbnail(many), expected, atol=1e-3)
    assert thumbnail(grey[:20, :30]).shape == (64, 64)


def test_aligning_finds_the_crop() -> None:
    images = [scene(seed, 180, 240) for seed in range(8)]
    crops = [tuple(np.random.default_rng(seed).uniform(0, 0.1, 4)) for seed in range(8)]
    copies = [altered(image, crop=crop) for image, crop in zip(images, crops, strict=True)]
    pairs = search(_thumbnails(images), _thumbnails(copies))
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == {
        (i, i) for i in range(8)
    }
    found = align(_thumbnails(images), _thumbnails(copies), pairs)
    for place, window in zip(pairs.first, found.windows, strict=True):
        left, top, right, bottom = crops[place]
        np.testing.assert_allclose(window, (top, 1 - bottom, left, 1 - right), atol=0.01)
    assert found.same.all()
    assert (found.detail > 0.9).all()


def test_an_object_that_is_another_one_makes_no_copy() -> None:
    """As in a studio or before a camera that stands still: all the rest is the same."""
    images = [scene(seed, 120, 160) for seed in range(12)]
    others = []
    for seed, image in enumerate(images):
        other = image.copy()
        other[40:70, 60:100] = scene(100 + seed, 30, 40)
        others.append(other)
    pairs = search(_thumbnails(images), _thumbnails(others))
    assert len(pairs) == 12
    found = align(_thumbnails(images), _thumbnails(others), pairs)
    assert not found.same.any()
    assert (found.coarse > 0.8).all()


def test_the_number_of_threads_changes_nothing() -> None:
    images = _thumbnails([scene(seed) for seed in range(10)])
    copies = _thumbnails([randomly_altered(scene(seed), seed) for seed in range(10)])
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(search(images, copies, least=0.3))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0].first, results[1].first)
    np.testing.assert_allclose(results[0].similarity, results[1].similarity, atol=1e-6)


def test_views_hold_the_uncropped_image_as_it_is_and_mirrored() -> None:
    assert VIEWS[0].symmetry == UPRIGHT
    assert VIEWS[0].window == WHOLE
    assert LEAST < 0.86  # What is said of copies of real images at `LEAST`.
