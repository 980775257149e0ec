"""The layouts in which people keep images and masks, and what is refused."""

from pathlib import Path

import pytest
from image_files import blocks, photo, save

from truemask.datasets.pairing import find_pairs
from truemask.errors import UsageError


def lay_out(root: Path, *paths: str) -> Path:
    """Empty files: pairing goes by names alone."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def pairs_of(root: Path, **options) -> list[tuple]:
    return [
        (pair.part, pair.name, str(pair.image.relative_to(root)), str(pair.mask.relative_to(root)))
        for pair in find_pairs(root, **options)[0]
    ]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("image", "label"),
        ("imgs", "annotations"),
        ("JPEGImages", "SegmentationClass"),
        ("Images", "ground_truth"),
        ("img", "gt"),
        ("photos", "Ground-Truth"),
        ("images_512", "masks_512"),
    ],
)
def test_names_of_the_two_folders(tmp_path, images, masks):
    lay_out(tmp_path, f"{images}/b.jpg", f"{images}/a.JPEG", f"{masks}/a.png", f"{masks}/b.tif")
    assert pairs_of(tmp_path) == [
        (None, "a", f"{images}/a.JPEG", f"{masks}/a.png"),
        (None, "b", f"{images}/b.jpg", f"{masks}/b.tif"),
    ]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("train/images/a.jpg", "train/masks/a.png"),
        ("images/train/a.jpg", "masks/train/a.png"),
        ("training/imgs/a.jpg", "training/labels/a.png"),
        ("train/a.jpg", "train_masks/a_mask.gif"),
        ("train/a.jpg", "trainannot/a.png"),
        ("images_train/a.jpg", "labels-train/a.png"),
        ("train2017/images/a.jpg", "train2017/masks/a.png"),
        ("train/a.jpg", "train/a_mask.png"),
        ("train/a.jpg", "train/masks/a.png"),
    ],
)
def test_parts_on_disk(tmp_path, image, mask):
    root = lay_out(tmp_path, image, mask)
    for old, new in (("train", "val"), ("train", "test")):
        if "training" not in image:
            lay_out(root, image.replace(old, new), mask.replace(old, new))
    found = pairs_of(root)
    assert ("train", "a" if len(found) == 1 else "train/a", image, mask) in found
    parts = {pair[0] for pair in found}
    assert parts == ({"train"} if "training" in image else {"train", "validation", "test"})


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "dev"])
def test_names_of_the_validation_part(tmp_path, name):
    lay_out(tmp_path, f"{name}/images/a.jpg", f"{name}/masks/a.png")
    assert pairs_of(tmp_path)[0][0] == "validation"


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.jpg", "a_mask.png"),
        ("a.png", "a-label.png"),
        ("a.png", "a_GT.png"),
        ("a_sat.jpg", "a_mask.png"),
        ("image_a.jpg", "mask_a.png"),
        ("0016E5_07959.png", "0016E5_07959_L.png"),
        ("a.jpg", "a.png"),
    ],
)
def test_files_side_by_side(tmp_path, image, mask):
    root = lay_out(tmp_path, image, mask)
    assert pairs_of(root) == [(None, Path(image).stem, image, mask)]


def test_an_image_named_like_a_mask_is_an_image(tmp_path):
    root = lay_out(tmp_path, "face_mask.jpg", "face_mask_mask.png", "hand.jpg", "hand_mask.png")
    assert pairs_of(root) == [
        (None, "face_mask", "face_mask.jpg", "face_mask_mask.png"),
        (None, "hand", "hand.jpg", "hand_mask.png"),
    ]


def test_nested_folders_stay_in_the_name(tmp_path):
    files = [
        f"{kind}/{city}/test/1.png" for kind in ("images", "masks") for city in ("bonn", "ulm")
    ]
    assert [pair[:2] for pair in pairs_of(lay_out(tmp_path, *files))] == [
        (None, "bonn/test/1"),
        (None, "ulm/test/1"),
    ]


def test_equal_names_win_over_names_without_marks(tmp_path):
    files = ["images/a.png", "images/a_mask.png", "masks/a.png", "masks/a_mask.png"]
    assert [pair[2:] for pair in pairs_of(lay_out(tmp_path, *files))] == [
        ("images/a.png", "masks/a.png"),
        ("images/a_mask.png", "masks/a_mask.png"),
    ]


def test_unusual_names_can_be_given(tmp_path):
    root = lay_out(tmp_path, "rgbd/a.png", "rgbd/b.png", "wounds/a.png", "wounds/b.png")
    assert [p[3] for p in pairs_of(root, image_folder="rgbd", mask_folder="wounds")] == [
        "wounds/a.png",
        "wounds/b.png",
    ]
    root = lay_out(tmp_path / "flat", "a.png", "a-cells.png")
    assert pairs_of(root, mask_suffix="-cells") == [(None, "a", "a.png", "a-cells.png")]


def test_a_given_mask_folder_rules_out_the_usual_ones(tmp_path):
    root = lay_out(tmp_path, "images/a.png", "masks/a.png", "edges/a.png")
    pairs, notes = find_pairs(root, mask_folder="edges")
    assert [str(pair.mask.relative_to(root)) for pair in pairs] == ["edges/a.png"]
    assert "1 files that are neither" in notes[0]
    assert "masks/" in notes[0]


def test_what_is_left_out_is_said(tmp_path):
    root = lay_out(
        tmp_path, "images/a.png", "masks/a.png", "images/b.heic", "previews/a.png",
        "images/._a.png", "images/Thumbs.db", ".cache/a.png", "__MACOSX/images/z.png",
    )  # fmt: skip
    pairs, notes = find_pairs(root)
    assert [pair.name for pair in pairs] == ["a"]
    assert len(notes) == 2
    assert "1 .heic" in notes[0]
    assert "previews/" in notes[1]


def test_a_test_part_without_masks_is_left_out(tmp_path):
    root = lay_out(tmp_path, "train/a.jpg", "train_masks/a_mask.gif", "test/b.jpg", "test/c.jpg")
    pairs, notes = find_pairs(root)
    assert [pair.part for pair in pairs] == ["train"]
    assert "2 images" in notes[0]


def refused(root, text, **options):
    with pytest.raises(UsageError, match=text) as caught:
        find_pairs(root, **options)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder_and_no_images(tmp_path):
    refused(tmp_path / "missing", "does not exist: give a folder")
    refused(save(tmp_path / "x.png", photo()), "is a file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images: expected images/")
    refused(lay_out(tmp_path / "odd", "images/a.npy", "images/b.npy"), r"but 2 \.npy")


def test_images_or_masks_only(tmp_path):
    refused(lay_out(tmp_path / "i", "images/a.png", "images/b.png"), "2 images but no masks")
    refused(lay_out(tmp_path / "m", "masks/a.png"), "1 masks but no images")
    refused(lay_out(tmp_path / "f", "a.jpg", "b.jpg"), "2 images but no masks")


def test_lonely_files_are_counted_and_the_first_named(tmp_path):
    pairs = [f"{kind}/{i}.png" for kind in ("images", "masks") for i in range(9)]
    root = lay_out(tmp_path / "i", *pairs, *(f"images/x{i}.png" for i in range(5)))
    refused(root, r"5 images have no mask \(images/x0.png, images/x1.png, images/x2.png and 2 more")
    root = lay_out(tmp_path / "m", *pairs, "masks/y.png")
    refused(root, r"1 masks have no image \(masks/y.png\)")
    root = lay_out(tmp_path / "b", *pairs, "masks/y.png", "images/x.png")
    refused(root, "1 images have no mask .* and 1 masks have no image")
    root = lay_out(tmp_path / "p", "train/images/a.png", "train/masks/a.png", "val/images/a.png")
    refused(root, "1 images have no mask")


def test_doubtful_names(tmp_path):
    root = lay_out(tmp_path / "two", "images/a.png", "images/a.jpg", "masks/a.png")
    refused(root, "two images share a name: images/a.jpg and images/a.png")
    root = lay_out(tmp_path / "masks", "images/a.png", "masks/a.png", "labels/a.png")
    refused(root, "two masks share a name: labels/a.png and masks/a.png")


def test_parts_and_images_outside_of_them(tmp_path):
    files = [f"{place}{kind}/a.png" for place in ("", "train/") for kind in ("images", "masks")]
    refused(lay_out(tmp_path, *files), "1 outside of any")


def test_an_empty_part(tmp_path):
    root = lay_out(tmp_path, "train/images/a.png", "train/masks/a.png")
    (root / "val" / "images").mkdir(parents=True)
    with pytest.raises(UsageError, match="val holds no images: fill this part"):
        find_pairs(root)


def test_the_order_on_disk_does_not_matter(tmp_path, monkeypatch):
    import os

    root = lay_out(
        tmp_path, *(f"{kind}/{i}.png" for kind in ("images", "masks") for i in range(30))
    )
    wanted = pairs_of(root)
    walk = os.walk

    def backwards(*args, **options):
        for folder, subfolders, names in walk(*args, **options):
            subfolders.reverse()
            names.reverse()
            yield folder, subfolders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert pairs_of(root) == wanted
    assert [pair[1] for pair in wanted] == sorted(pair[1] for pair in wanted)


def test_masks_made_of_blocks_are_what_they_seem():
    """The helper that other tests of this folder rely on."""
    assert blocks(3, 4, width=4, height=2).tolist() == [[3, 3, 4, 4]] * 2
