"""Cityscapes: its table of labels against torchvision's, and its folders."""

from pathlib import Path

import numpy as np
import pytest
from image_files import blocks, photo, save
from torchvision import datasets

from truemask.datasets.cityscapes import LABELS, TRAIN_LABELS, VISUAL_LABELS, cityscapes
from truemask.errors import UsageError


def write(root: Path, folder: str, name: str, mask: np.ndarray) -> None:
    city = name.partition("_")[0]
    save(root / f"leftImg8bit/{folder}/{city}/{name}_leftImg8bit.png", photo(*mask.shape))
    labels = root / f"gtFine/{folder}/{city}/{name}_gtFine_labelIds.png"
    save(labels, mask)
    save(labels.with_name(f"{name}_gtFine_color.png"), photo(*mask.shape))
    labels.with_name(f"{name}_gtFine_polygons.json").write_text("{}")


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "train", "ulm_000001_000019", np.arange(34, dtype=np.uint8).reshape(2, 17))
    write(tmp_path, "train", "aachen_000000_000019", blocks(7, 26, 1))
    write(tmp_path, "val", "munster_000000_000019", blocks(255, 23, 4))
    return tmp_path


def test_the_table_is_that_of_torchvision():
    theirs = [(row.name, row.id, row.train_id, row.color) for row in datasets.Cityscapes.classes]
    # Theirs has -1 as the class of a license plate, whose id is -1 as well.
    assert theirs[-1] == ("license plate", -1, -1, (0, 0, 142))
    assert [tuple(row) for row in LABELS[:-1]] == theirs[:-1]
    assert tuple(LABELS[-1]) == ("license plate", -1, 255, (0, 0, 142))


def test_the_classes_are_in_the_order_of_their_ids():
    assert [row.train_id for row in TRAIN_LABELS] == list(range(19))
    assert [row.id for row in VISUAL_LABELS] == list(range(4, 34))


def test_parts_names_and_cities(root):
    parts = cityscapes(root)
    assert list(parts) == ["train", "validation"]
    assert parts["train"].names == ("aachen_000000_000019", "ulm_000001_000019")
    assert parts["train"].attributes == ({"city": "aachen"}, {"city": "ulm"})
    assert parts["validation"][0].attributes == {"city": "munster"}
    assert parts.notes == (
        "The parts (2 train, 1 validation) are Cityscapes' own.",
        "There is no test part: results are judged on validation.",
    )


def test_19_classes_are_the_ids_in_training(root):
    mask = cityscapes(root)["train"][1].mask.flatten().tolist()
    assert mask == [row.train_id for row in datasets.Cityscapes.classes[:-1]]
    assert cityscapes(root)["validation"][0].mask.unique().tolist() == [10, 255]


def test_30_classes_are_the_ids_from_4_on(root):
    parts = cityscapes(root, classes=30)
    assert parts["train"].labels.num_classes == 30
    assert parts["train"].labels.names[:3] == ("static", "dynamic", "ground")
    assert parts["train"][1].mask.flatten().tolist() == [255] * 4 + list(range(30))


def test_the_bonnet_is_ignored_or_static(root):
    ignored = cityscapes(root, classes=30)["train"][0]
    static = cityscapes(root, classes=30, ego_vehicle="static")["train"][0]
    bonnet = blocks(0, 0, 1) == 1
    assert set(ignored.mask.numpy()[bonnet]) == {255}
    assert set(static.mask.numpy()[bonnet]) == {0}
    assert np.array_equal(ignored.mask[~bonnet], static.mask[~bonnet])


def test_the_test_part_is_left_out(root):
    write(root, "test", "berlin_000000_000019", blocks(1, 2, 3))
    parts = cityscapes(root)
    assert "test" not in parts
    assert (
        parts.notes[-1] == "Cityscapes withholds the masks of its test images: they were left out."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 24}, "classes is 24; Cityscapes has 19 or 30"),
        ({"ego_vehicle": "car"}, "ego_vehicle is 'car'; allowed are ignored and static"),
        ({"ego_vehicle": "static"}, "ego_vehicle=static needs classes=30"),
    ],
)
def test_unknown_options(root, options, message):
    with pytest.raises(UsageError, match=message):
        cityscapes(root, **options)


def test_what_macos_leaves_beside_files_is_skipped(root):
    for path in list(root.rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (root / "leftImg8bit/train/.DS_Store").touch()
    assert {name: len(part) for name, part in cityscapes(root).items()} == {
        "train": 2,
        "validation": 1,
    }


def test_half_a_download_is_refused(root):
    lost = root / "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png"
    lost.unlink()
    with pytest.raises(UsageError, match=r"1 files are missing .*ulm_000001_000019_leftImg8bit"):
        cityscapes(root)


def test_a_city_without_masks_is_refused(root):
    save(root / "leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png", photo())
    with pytest.raises(UsageError, match="bonn_000000_000019_gtFine_labelIds"):
        cityscapes(root)


def test_what_is_no_cityscapes_folder(root, tmp_path):
    for path in (tmp_path / "nowhere", tmp_path / "leftImg8bit"):
        with pytest.raises(UsageError, match="www.cityscapes-dataset.com/downloads") as caught:
            cityscapes(path)
        assert "gtFine/{train,val}/CITY/*_gtFine_labelIds.png" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_empty_folders(tmp_path):
    for name in ("leftImg8bit", "gtFine"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="holds no images with masks: it must look like left"):
        cityscapes(tmp_path)


def test_a_value_outside_of_the_table(root):
    write(root, "val", "lindau_000000_000019", blocks(7, 77))
    with pytest.raises(UsageError, match=r"lindau_000000_000019_gtFine_labelIds.*value 77"):
        cityscapes(root)["validation"][0]
