"""Images that two parts share, on generated pictures and, where they are there, on real ones."""

import numpy as np
import pytest
from part_material import DATA, album, altered, opened, photos, randomly_altered, scene

from truemask.checks.albums import Album, compare, look_alikes
from truemask.checks.duplicates import RULES
from truemask.checks.finding import Finding
from truemask.checks.sharing import Shared

real = pytest.mark.skipif(not DATA.exists(), reason=f"needs the real images of {DATA}")


def _findings(train: Album, val: Album) -> list[Finding]:
    shared = [Shared(found) for found in compare({"val": val, "train": train})]
    return [finding for rule in RULES for finding in rule(shared)]


def _codes(train: Album, val: Album) -> set[str]:
    return {finding.code for finding in _findings(train, val)}


def test_different_images_share_nothing() -> None:
    assert not _findings(
        album([scene(seed) for seed in range(12)]), album([scene(seed) for seed in range(20, 26)])
    )


def test_equal_images_are_named_with_masks_that_differ() -> None:
    images = [scene(seed) for seed in range(8)]
    masks = [np.full((96, 128), seed % 2, np.uint8) for seed in range(8)]
    other = [masks[2], 1 - masks[5]]
    found = _findings(
        album(images, masks=masks, names=[f"{letter}.png" for letter in "abcdefgh"]),
        album([images[2], images[5], scene(90)], masks=[*other, masks[0]], names=["x", "y", "z"]),
    )
    assert [(finding.code, finding.level) for finding in found] == [("TM201", "error")]
    assert found[0].evidence["count"] == 2
    assert found[0].evidence["with_other_masks"] == [["f.png", "y"]]
    assert "2 of the 3 images of val are also in train" in found[0].message
    assert all(max(picture.pixels.shape) <= 512 for picture in found[0].pictures)


def test_one_pixel_makes_an_altered_copy_of_an_equal_image() -> None:
    image = scene(1)
    other = image.copy()
    other[3, 4] ^= 1
    rest = [scene(seed) for seed in range(10, 14)]
    assert _codes(album([image, *rest]), album([image])) == {"TM201"}
    assert _codes(album([image, *rest]), album([other])) == {"TM202"}


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.4},
        {"scale": 1.5},
        {"quality": 30},
        {"mirrored": True},
        {"crop": (0.1, 0, 0, 0.1)},
        {"crop": (0.08, 0.1, 0.1, 0.05), "mirrored": True},
        {"gain": 0.7, "offset": 20},
        {"gamma": 1.5},
    ],
)
def test_altered_copies_are_found_in_either_direction(options: dict) -> None:
    images = [scene(seed, 144, 192) for seed in range(6)]
    copy = altered(images[3], **options)
    whole, cut = album(images), album([copy, scene(70)], names=["copy", "other"])
    for train, val in ((whole, cut), (cut, whole)):
        (found,) = _findings(train, val)
        assert (found.code, found.level) == ("TM202", "error")
        assert found.evidence["count"] == 1
        assert ("mirrored" in found.message) == bool(options.get("mirrored"))
        assert ("cropped" in found.message) == ("crop" in options)


def test_one_copy_among_very_many_images_is_a_warning() -> None:
    train = album([scene(seed, 64, 64) for seed in range(3)])
    others = [scene(1000 + seed, 64, 64) for seed in range(110)]
    copy = altered(scene(1, 64, 64), quality=60)
    (found,) = _findings(train, album([*others, copy]))
    assert (found.code, found.level, found.evidence["count"]) == ("TM202", "warning", 1)


def test_images_of_one_colour_are_not_compared() -> None:
    blank = [np.full((60, 80, 3), value, np.uint8) for value in (0, 0, 128, 255)]
    assert not _findings(album(blank), album(blank))


def test_noise_and_stripes_of_another_kind_are_no_copies() -> None:
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(20)]
    assert not _findings(album(noise[:12]), album(noise[12:]))


def _drive(frames: int, seed: int, step: int = 3) -> list[np.ndarray]:
    """What a camera sees that pans over a long picture."""
    panorama = scene(seed, 96, 128 + frames * step)
    return [panorama[:, step * i : step * i + 128] for i in range(frames)]


def test_frames_of_a_video_that_was_split_at_random_are_neighbours() -> None:
    frames = _drive(80, seed=5)
    names = [f"drive_{10 * i:06d}" for i in range(80)]
    order = np.random.default_rng(0).permutation(80)
    parts = [
        album([frames[i] for i in sorted(chosen)], names=[names[i] for i in sorted(chosen)])
        for chosen in (order[:60], order[60:])
    ]
    (found,) = _findings(*parts)
    assert (found.code, found.level) == ("TM203", "warning")
    assert found.evidence["by"] == "number"
    assert found.evidence["count"] == 20
    assert found.evidence["pairs"][0]["distance"] == 10


def test_a_video_that_is_cut_in_two_is_sound() -> None:
    frames, names = _drive(120, seed=6, step=12), [f"f{i:05d}" for i in range(120)]
    assert not _findings(album(frames[:60], names=names[:60]), album(frames[60:], names=names[60:]))


def _studio(seed: int) -> np.ndarray:
    """Another object of one make in one studio: all but the fine texture is the same."""
    texture = np.random.default_rng(seed).normal(0, 1, (24, 32)).repeat(4, 0).repeat(4, 1)
    return np.clip(scene(3).astype(float) + 14 * texture[..., None], 0, 255).astype(np.uint8)


def test_where_all_images_look_alike_only_certain_copies_are_reported() -> None:
    objects = [_studio(seed) for seed in range(24)]
    alike = compare({"train": album(objects[:16]), "val": album(objects[16:])})[0].alignment
    assert alike.same.any()  # They pass for copies otherwise.
    assert not alike.certain.any()
    assert "TM202" not in _codes(album(objects[:16]), album(objects[16:]))
    copies = [altered(objects[i], quality=75) for i in range(3)]
    found = _findings(album(objects[:16]), album([*objects[16:], *copies]))
    (copied,) = [finding for finding in found if finding.code == "TM202"]
    assert copied.evidence["count"] == 3


def test_a_part_that_was_augmented_on_disk_holds_certain_copies() -> None:
    images = [scene(seed) for seed in range(20)]
    again = [altered(image, quality=80, gain=0.9) for image in images]
    assert not look_alikes(album([*images, *again]))
    assert look_alikes(album([_studio(seed) for seed in range(20)]))


def test_scenes_of_other_colours_are_not_one_scene() -> None:
    """As other cars in one studio, where names tell nothing."""
    frames = [_drive(2, seed=seed, step=6) for seed in range(12)]
    train, val = (album([pair[i] for pair in frames]) for i in (0, 1))
    assert _codes(train, val) == {"TM203"}
    painted = [255 - np.clip(pair[1].astype(int), 0, 255) for pair in frames]
    painted = [(255 - image) // 2 + np.array([90, 0, 40]) for image in painted]
    other = album([image.astype(np.uint8) for image in painted])
    assert _codes(train, other) == set()


def test_numbers_of_a_collection_are_no_time() -> None:
    images = [scene(seed, 64, 64) for seed in range(80)]
    names = [f"IMG_{i:04d}" for i in range(80)]
    assert not _findings(
        album(images[::2], names=names[::2]), album(images[1::2], names=names[1::2])
    )


@real
@pytest.mark.slow
@pytest.mark.parametrize("folder", ["bsds500", "crackforest"])
def test_real_copies_are_found_and_different_images_are_not(folder: str) -> None:
    images = opened(photos(f"{folder}/train"))[:70]
    others = opened(photos(f"{folder}/val"))[:40]
    assert not _findings(album(images), album(others))
    copies = [randomly_altered(image, seed) for seed, image in enumerate(images)]
    (shared,) = compare({"train": album(images), "val": album([*copies, *others])})
    found = Shared(shared).copies
    assert set(found) <= set(range(len(copies)))
    assert all(shared.closer.first[place] == second for second, place in found.items())
    assert len(found) >= len(copies) - 1


@real
def test_the_validation_clip_of_camvid_is_found_by_its_numbers() -> None:
    parts = {}
    for part in ("train", "val"):
        paths = [path for path in photos(f"camvid/{part}") if path.stem.startswith("0016E5")]
        parts[part] = album(opened(paths), names=[path.stem for path in paths])
    found = _findings(parts["train"], parts["val"])
    assert [finding.code for finding in found] == ["TM203"]
    assert found[0].evidence["by"] == "number"
    assert found[0].evidence["count"] >= 0.1 * len(parts["val"])
