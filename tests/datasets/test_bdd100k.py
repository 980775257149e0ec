"""BDD100K's 10K images: parts, classes, and the attributes of another task's labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from image_files import blocks, photo, save
from torchvision import datasets

from truemask.datasets import bdd100k as module
from truemask.datasets.bdd100k import bdd100k
from truemask.errors import UsageError

IDS = np.array([*range(19), 255], dtype=np.uint8).reshape(4, 5)


def record(name: str, scene: str | None, **others: object) -> dict[str, object]:
    attributes = {"weather": "clear", "timeofday": "night", "scene": scene}
    labels = [{"category": "car", "box2d": {"x1": 1.5, "y1": 2}, "attributes": {"scene": "no"}}]
    return {"name": f"{name}.jpg", "attributes": attributes, "labels": labels, **others}


RECORDS = {
    "train": [record("b", "city street"), record("elsewhere", "tunnel"), record("e", "undefined")],
    # The 10K and the 100K images are divided differently.
    "val": [record("a", "highway"), {"name": "d.jpg", "attributes": None}],
}


def write_det(home: Path, records: dict[str, list]) -> None:
    folder = home / "labels" / "det_20"
    folder.mkdir(parents=True, exist_ok=True)
    for part, listed in records.items():
        (folder / f"det_{part}.json").write_text(json.dumps(listed))


def write(home: Path) -> Path:
    for part, names in (("train", "ba"), ("val", "edc")):
        for name in names:
            save(home / "images/10k" / part / f"{name}.jpg", photo(*IDS.shape))
            save(home / "labels/sem_seg/masks" / part / f"{name}.png", IDS)
    write_det(home, RECORDS)
    return home


def test_parts_and_classes(tmp_path):
    parts = bdd100k(write(tmp_path))
    assert {name: part.names for name, part in parts.items()} == {
        "train": ("a", "b"),
        "validation": ("c", "d", "e"),
    }
    theirs = [row for row in datasets.Cityscapes.classes if 0 <= row.train_id < 255]
    theirs.sort(key=lambda row: row.train_id)
    labels = parts["train"].labels
    assert labels.names == tuple(row.name for row in theirs)
    assert labels.colors == tuple(row.color for row in theirs)
    assert np.array_equal(parts["train"][0].mask, IDS)


def test_attributes(tmp_path):
    parts = bdd100k(write(tmp_path))
    known = {"weather": "clear", "timeofday": "night"}
    assert parts["train"].attributes == (
        {"scene": "highway", **known, "area": "non-city"},
        {"scene": "city street", **known, "area": "city"},
    )
    assert parts["validation"].attributes == ({}, {}, {"scene": "undefined", **known})
    assert parts["train"][1].attributes == parts["train"].attributes[1]
    assert parts.notes[-1] == "The scene of 3 of 5 images is known."


def test_only_images_whose_scene_is_stated(tmp_path):
    parts = bdd100k(write(tmp_path), require_scene=True)
    assert {name: part.names for name, part in parts.items()} == {
        "train": ("a", "b"),
        "validation": ("e",),
    }
    assert parts.notes[-1] == "Of 5 images 2 have no scene: left out."


def test_the_folder_may_lie_in_one_called_bdd100k(tmp_path):
    write(tmp_path / "bdd100k")
    assert bdd100k(tmp_path)["train"].names == ("a", "b")


@pytest.mark.parametrize("chunk", [3, 7, 64, 1000])
def test_records_do_not_depend_on_how_the_file_is_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    for indent in (None, 4):
        path = tmp_path / "det.json"
        listed = [record(f'ä\\"{i}', "a ] b", number=i) for i in range(9)]
        path.write_text(" \n" + json.dumps(listed, indent=indent, ensure_ascii=False) + "\n")
        assert list(module._records(path)) == listed


def test_an_empty_list_has_no_records(tmp_path):
    write_det(write(tmp_path), {"train": [], "val": []})
    assert set(map(len, bdd100k(tmp_path)["train"].attributes)) == {0}
    with pytest.raises(UsageError, match="states the scene of none of the 5 images"):
        bdd100k(tmp_path, require_scene=True)


def test_without_the_detection_labels(tmp_path):
    path = write(tmp_path) / "labels" / "det_20" / "det_val.json"
    path.unlink()
    parts = bdd100k(tmp_path)
    assert parts["train"].attributes[0] == {}
    assert "Without labels/det_20/det_val.json the scenes of images are unknown." in parts.notes
    with pytest.raises(UsageError, match=r"det_val\.json is missing.*'Detection 2020 Labels'"):
        bdd100k(tmp_path, require_scene=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"frames": []}', "is no JSON list"),
        ("", "is no JSON list"),
        ("[1, 2]", "holds '1' in its list"),
        ('[{"name": "a.jpg"}', "is not valid JSON"),
        ('[{"name": "a.jpg"', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('[{"title": "a.jpg"}]', "record 0 has no name"),
    ],
)
def test_broken_detection_labels_are_named(tmp_path, content, message):
    path = write(tmp_path) / "labels" / "det_20" / "det_train.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        bdd100k(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    path = write(tmp_path) / "labels" / "det_20" / "det_train.json"
    path.write_bytes(b'[{"name": "\xff"}]')
    with pytest.raises(UsageError, match="is no UTF-8 text"):
        bdd100k(tmp_path)


def test_the_test_part_has_no_masks(tmp_path):
    save(write(tmp_path) / "images/10k/test/f.jpg", photo())
    parts = bdd100k(tmp_path)
    assert "test" not in parts
    assert parts.notes[-1] == "The test part has no masks: its 1 images were left out."


def test_an_image_in_both_parts_is_refused(tmp_path):
    write(tmp_path)
    save(tmp_path / "images/10k/val/a.jpg", photo())
    save(tmp_path / "labels/sem_seg/masks/val/a.png", blocks(0))
    with pytest.raises(UsageError, match="name a more than once"):
        bdd100k(tmp_path)


def test_half_a_download_is_refused(tmp_path):
    (write(tmp_path) / "labels/sem_seg/masks/train/a.png").unlink()
    with pytest.raises(UsageError, match=r"1 files are missing .*a\.png"):
        bdd100k(tmp_path)


def test_what_is_no_bdd100k_folder(tmp_path):
    (tmp_path / "images/10k").mkdir(parents=True)
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "images"):
        with pytest.raises(UsageError, match=r"doc\.bdd100k\.com/download\.html") as caught:
            bdd100k(path)
        assert "labels/sem_seg/masks/{train,val}/*.png" in str(caught.value)


def test_empty_folders(tmp_path):
    (tmp_path / "images/10k").mkdir(parents=True)
    (tmp_path / "labels/sem_seg/masks").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds no images with masks"):
        bdd100k(tmp_path)
