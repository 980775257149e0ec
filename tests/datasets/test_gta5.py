"""GTA5: colours of Cityscapes, the split of MATLAB, pairs of different size."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from image_files import photo, save, save_palette
from torchvision import datasets

from truemask.datasets.gta5 import gta5
from truemask.errors import UsageError

CLASSES = datasets.Cityscapes.classes[:-1]
COLORS = [row.color for row in CLASSES]
IDS = np.arange(len(CLASSES), dtype=np.uint8).reshape(2, -1)


def write(root: Path, number: int, *, palette: bool = True, size: tuple[int, int] = (2, 17)):
    save(root / "images" / f"{number:05d}.png", photo(*size))
    path = root / "labels" / f"{number:05d}.png"
    if palette:
        return save_palette(path, IDS, COLORS)
    return save(path, np.array(COLORS, dtype=np.uint8)[IDS])


def expected() -> list[int]:
    """The first class of a colour counts: a pole group looks like a pole."""
    owner: dict[tuple, int] = {}
    for row in CLASSES:
        if row.train_id != 255:
            owner.setdefault(row.color, row.train_id)
    return [owner.get(row.color, 255) for row in CLASSES]


@pytest.mark.parametrize("palette", [True, False])
def test_colours_are_classes(tmp_path, palette):
    write(tmp_path, 1, palette=palette)
    part = gta5(tmp_path)["train"]
    assert part[0].mask.flatten().tolist() == expected()
    assert sorted(set(expected())) == [*range(19), 255]
    assert part.labels.names[:2] == ("road", "sidewalk")


def test_static_things_of_the_game_are_ignored(tmp_path):
    save(write(tmp_path, 1), np.full((2, 17, 3), 20, dtype=np.uint8))
    assert gta5(tmp_path)["train"][0].mask.unique().tolist() == [255]


def test_one_part_without_a_split(tmp_path):
    for number in (3, 1, 2):
        write(tmp_path, number)
    parts = gta5(tmp_path)
    assert {name: part.names for name, part in parts.items()} == {
        "train": ("00001", "00002", "00003")
    }
    assert parts.notes == (
        "The parts (3 train) are one, as there is no split.mat.",
        "There is no validation part: data.split makes one.",
    )


def test_the_parts_of_split_mat(tmp_path):
    for number in range(1, 6):
        write(tmp_path, number)
    lists = {"trainIds": [[1], [4], [77]], "valIds": [[3]], "testIds": [[2]]}
    scipy.io.savemat(tmp_path / "split.mat", {k: np.array(v) for k, v in lists.items()})
    parts = gta5(tmp_path)
    assert {name: part.names for name, part in parts.items()} == {
        "train": ("00001", "00004"),
        "validation": ("00003",),
        "test": ("00002",),
    }
    assert parts.notes == (
        "The parts (2 train, 1 validation, 1 test) are those of split.mat.",
        "1 pairs have no place in split.mat (00005): left out.",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"trainIds": [1]}, "holds no valIds"),
        ({"trainIds": [1], "valIds": [1], "testIds": []}, "00001 in train and in validation"),
        (None, "no MATLAB file"),
    ],
)
def test_a_broken_split(tmp_path, content, message):
    write(tmp_path, 1)
    path = tmp_path / "split.mat"
    if content is None:
        path.write_text("MATLAB 5.0 MAT-file, not at all")
    else:
        scipy.io.savemat(path, content)
    with pytest.raises(UsageError, match=message) as caught:
        gta5(tmp_path)
    assert str(path) in str(caught.value)


def test_what_stands_alone_is_left_out(tmp_path):
    write(tmp_path, 1)
    save(tmp_path / "images/00002.png", photo())
    save(tmp_path / "labels/00003.png", photo())
    parts = gta5(tmp_path)
    assert parts["train"].names == ("00001",)
    assert parts.notes[-2:] == (
        "1 images have no mask (00002): left out.",
        "1 masks have no image (00003): left out.",
    )


def test_a_mask_of_another_size_is_brought_to_the_image(tmp_path):
    write(tmp_path, 1, size=(4, 34))
    write(tmp_path, 2)
    parts = gta5(tmp_path)
    mask = parts["train"][0].mask.numpy()
    assert np.array_equal(mask[::2, ::2], parts["train"][1].mask)
    assert np.array_equal(mask[1::2, 1::2], parts["train"][1].mask)
    assert parts.notes[-1].startswith("Of 2 pairs looked at 1 have a mask of another size")


def test_sizes_that_are_known_to_differ_are_looked_at(tmp_path):
    for number in range(1, 300):
        write(tmp_path, number)
    write(tmp_path, 20860, size=(4, 34))
    assert gta5(tmp_path).notes[-1].startswith("Of 151 pairs looked at 1 have a mask of another")


def test_images_known_to_be_blank_are_left_out(tmp_path):
    for number in (1, 15188, 17705):
        write(tmp_path, number)
    assert len(gta5(tmp_path)["train"]) == 3
    save(tmp_path / "images" / "17705.png", np.full((2, 17, 3), (0, 5, 9), dtype=np.uint8))
    parts = gta5(tmp_path)
    assert parts["train"].names == ("00001", "15188")
    assert parts.notes[-1] == "1 images have no content (17705): left out."


def test_a_colour_of_no_label(tmp_path):
    write(tmp_path, 1, palette=False)
    save(tmp_path / "labels/00001.png", np.array([[[1, 2, 3]] * 17, [[70, 70, 70]] * 17], np.uint8))
    save_palette(write(tmp_path, 2), np.minimum(IDS, 1), [(70, 70, 70), (1, 2, 3)])
    part = gta5(tmp_path)["train"]
    with pytest.raises(UsageError, match=r"00001\.png: colour #010203 \(17 pixels\) stands in"):
        part[0]
    with pytest.raises(UsageError, match=r"00002\.png: colour #010203 \(33 pixels\) stands in"):
        part[1]


def test_a_mask_of_greys_only(tmp_path):
    save(write(tmp_path, 1), np.full((2, 17), 70, dtype=np.uint8))
    save(write(tmp_path, 2), np.full((2, 17, 3), 70, dtype=np.uint8))
    for sample in gta5(tmp_path)["train"]:
        assert sample.mask.unique().tolist() == [2]


def test_what_is_no_gta5_folder(tmp_path):
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match=r"download\.visinf\.tu-darmstadt\.de") as caught:
            gta5(path)
        assert "labels/00001.png" in str(caught.value)
    (tmp_path / "labels").mkdir()
    with pytest.raises(UsageError, match="holds no images with masks"):
        gta5(tmp_path)
