"""A folder as a dataset: parts, samples, errors, and the two real data sets if they are here."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import blocks, photo, save, write_folder
from PIL import Image
from torch.utils.data import DataLoader

from truemask.datasets import paired, scanning
from truemask.datasets.folder import folder
from truemask.datasets.scanning import count_values
from truemask.errors import UsageError
from truemask.images import RGB

DATA = Path(__file__).parents[2] / "../shared/data"


def needs(name):
    return pytest.mark.skipif(
        not (DATA / name).is_dir(), reason=f"the data set {name} is not in {DATA}"
    )


def test_a_sample_is_what_was_saved(tmp_path):
    root = write_folder(tmp_path, [blocks(0, 1, 2, height=9 + i, width=12) for i in range(5)])
    parts = folder(root)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 3, "validation": 1, "test": 1,
    }  # fmt: skip
    seen = set()
    for part in parts.values():
        assert part.labels is parts["train"].labels
        assert part.images == RGB
        assert len(part) == len(part.names)
        for index, sample in enumerate(part):
            number = int(sample.name)
            seen.add(number)
            assert part.names[index] == sample.name
            assert type(sample.image).__name__ == "Image"
            assert type(sample.mask).__name__ == "Mask"
            assert sample.mask.dtype == torch.uint8
            wanted = photo(9 + number, 12, seed=number)
            assert np.array_equal(sample.image.permute(1, 2, 0), wanted)
            assert np.array_equal(sample.mask, blocks(0, 1, 2, height=9 + number, width=12))
    assert seen == set(range(5))


def test_class_pixels_are_those_of_the_samples(tmp_path):
    random = np.random.default_rng(0)
    masks = [random.choice([0, 1, 2, 255], (8, 9)).astype(np.uint8) for _ in range(10)]
    colors = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], *[[0, 0, 0]] * 252, [224, 224, 192]])
    for kind, files in (("ids", masks), ("rgb", [colors.astype(np.uint8)[m] for m in masks])):
        for part in folder(write_folder(tmp_path / kind, files)).values():
            ids = torch.cat([sample.mask.flatten() for sample in part])
            counts = torch.bincount(ids, minlength=256).tolist()
            assert part.class_pixels == tuple(counts[:3])
            assert part.ignored_pixels == counts[255]


def test_values_are_counted_as_numpy_counts_them():
    random = np.random.default_rng(0)
    for raw in (
        random.integers(0, 4, (7, 5), dtype=np.uint8),
        random.integers(0, 65536, (7, 5), dtype=np.uint16),
        np.full((3, 3), 65535, dtype=np.uint16),
    ):
        values, counts = np.unique(raw, return_counts=True)
        assert count_values(raw) == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert count_values(np.array([[[1, 2, 3], [1, 2, 3], [255, 255, 255]]], np.uint8)) == {
        0x010203: 2, 0xFFFFFF: 1,
    }  # fmt: skip


def test_a_dataset_travels_to_workers(tmp_path):
    part = folder(write_folder(tmp_path, [blocks(0, 1)] * 6))["train"]
    copy = pickle.loads(pickle.dumps(part))
    assert torch.equal(copy[0].image, part[0].image)
    loader = DataLoader(part, batch_size=2, num_workers=2, collate_fn=list)
    assert [sample.name for batch in loader for sample in batch] == list(part.names)


def test_parts_on_disk_are_kept(tmp_path):
    for part in ("train", "val", "test"):
        write_folder(tmp_path, [blocks(0, 1)] * 2, prefix=part)
    parts = folder(tmp_path)
    assert {name: part.names for name, part in parts.items()} == {
        name: (f"{name}/000", f"{name}/001") for name in ("train", "validation", "test")
    }
    assert "on disk" in parts.notes[0]


def test_a_folder_without_test_part_says_so(tmp_path):
    for part in ("train", "val"):
        write_folder(tmp_path, [blocks(0, 1)] * 2, prefix=part)
    parts = folder(tmp_path)
    assert list(parts) == ["train", "validation"]
    assert "There is no test part: results are judged on validation." in parts.notes


def test_reading_the_masks_happens_once(tmp_path, monkeypatch):
    root = write_folder(tmp_path, [blocks(0, 1)] * 8)
    opened = []
    scan_mask = scanning.scan_mask
    monkeypatch.setattr(
        scanning, "scan_mask", lambda path: (opened.append(path), scan_mask(path))[1]
    )
    steps = []
    folder(root, progress=lambda done, total: steps.append((done, total)))
    assert sorted(opened) == sorted((root / "masks").iterdir())
    assert steps == [(i, 8) for i in range(1, 9)]


def test_no_image_is_decoded_at_opening(tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError("an image was decoded")

    root = write_folder(tmp_path, [blocks(0, 1)] * 8)
    monkeypatch.setattr(paired, "read_image_and_frame", refuse)
    assert len(folder(root)["train"]) == 6


def test_of_many_masks_a_sample_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(scanning, "SCAN_LIMIT", 10)
    masks = [blocks(0, 1, 2)] * 30
    parts = folder(write_folder(tmp_path, masks))
    notes = " ".join(parts.notes)
    assert "Of 30 masks a sample of 10 was read" in notes
    assert "Only 10 masks were read" in notes
    assert sum(len(part) for part in parts.values()) == 30
    assert parts["train"].class_pixels is None
    names = {pair.name for pair in scanning.sample(parts["train"].pairs, seed=0)}
    assert len(names) == 10
    assert names != {pair.name for pair in scanning.sample(parts["train"].pairs, seed=1)}
    backwards = parts["train"].pairs[::-1]
    assert names == {pair.name for pair in scanning.sample(backwards, seed=0)}


def test_a_value_that_the_sample_missed_is_refused_when_it_comes(tmp_path, monkeypatch):
    root = write_folder(tmp_path, [blocks(0, 1)] * 30)
    part = folder(root)["train"]
    save(part.pairs[3].mask, blocks(0, 1, 9))
    with pytest.raises(UsageError, match=rf"{part.names[3]}.png: value 9 \(240 pixels\)"):
        part[3]


def test_sizes_that_differ_are_refused(tmp_path):
    root = write_folder(tmp_path, [blocks(0, 1)] * 4)
    part = folder(root)["train"]
    save(part.pairs[0].mask, blocks(0, 1, height=10))
    text = r"png is 32x24 pixels, but its mask .*png is 32x10: a mask must have the size"
    with pytest.raises(UsageError, match=text):
        folder(root)
    with pytest.raises(UsageError, match=text):
        part[0]


def test_an_exif_orientation_turns_the_image_and_a_mask_of_the_unturned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(4):
        save(tmp_path / "images" / f"{index}.jpg", photo(24, 32), exif=exif)
        save(tmp_path / "masks" / f"{index}.png", blocks(0, 1, height=32, width=24))
    upright = folder(tmp_path)["train"][0]
    assert upright.image.shape == (3, 32, 24)
    assert np.array_equal(upright.mask, blocks(0, 1, height=32, width=24))
    for index in range(4):
        save(tmp_path / "masks" / f"{index}.png", blocks(0, 1, height=24, width=32))
    turned = folder(tmp_path)["train"][0]
    assert torch.equal(turned.image, upright.image)
    assert np.array_equal(turned.mask, np.rot90(blocks(0, 1, height=24, width=32), -1))


def test_faulty_files_are_refused_at_opening_or_when_read(tmp_path):
    root = write_folder(tmp_path, [blocks(0, 1)] * 4)
    image = root / "images" / "002.png"
    image.write_bytes(image.read_bytes()[:-500])
    parts = folder(root)
    with pytest.raises(UsageError, match=r"002\.png is truncated or corrupt"):
        [sample for part in parts.values() for sample in part]
    mask = root / "masks" / "001.png"
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(UsageError, match=r"001\.png is truncated or corrupt"):
        folder(root)
    Image.fromarray(blocks(0, 1)).save(mask, format="JPEG")
    with pytest.raises(UsageError, match=r"001\.png is a JPEG file in spite of its ending"):
        folder(root)


def test_a_truncated_jpeg_is_refused(tmp_path):
    root = write_folder(tmp_path, [blocks(0, 1)] * 4)
    for path in (root / "images").iterdir():
        path.unlink()
        save(path.with_suffix(".jpg"), photo())
        data = path.with_suffix(".jpg").read_bytes()
        path.with_suffix(".jpg").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(UsageError, match=r"\.jpg is truncated or corrupt"):
        folder(root)["train"][0]


def test_a_broken_classes_json_is_refused(tmp_path):
    root = write_folder(tmp_path, [blocks(0, 1)] * 4)
    (root / "classes.json").write_text("{")
    with pytest.raises(UsageError, match="classes.json is not valid JSON"):
        folder(root)
    (root / "classes.json").write_text('{"sky": 1}')
    with pytest.raises(UsageError, match="classes.json: .*an example that is understood"):
        folder(root)


def test_a_path_may_be_a_string(tmp_path):
    assert len(folder(str(write_folder(tmp_path, [blocks(0, 1)] * 4)))["train"]) == 3


TABLES = {
    "camvid": {
        "train": [16.85, 23.26, 0.98, 31.66, 4.49, 9.72, 1.17, 1.13, 5.87, 0.64, 0.29, 3.95],
        "validation": [9.18, 25.96, 0.56, 28.95, 8.72, 16.34, 0.89, 3.08, 1.75, 0.65, 2.22, 1.70],
    },
    "crackforest": {"train": [98.32, 1.67, 0.01], "validation": [98.59, 1.41, 0.00]},
}


@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [
        pytest.param("camvid", (367, 101), (360, 480), marks=needs("camvid")),
        pytest.param("crackforest", (70, 18), (320, 480), marks=needs("crackforest")),
    ],
)
def test_real_data_is_as_its_readme_says(name, sizes, shape):
    parts = folder(DATA / name)
    table = json.loads((DATA / name / "classes.json").read_text())
    assert {part: len(dataset) for part, dataset in parts.items()} == dict(
        zip(("train", "validation"), sizes, strict=True)
    )
    for part, dataset in parts.items():
        assert dataset.labels.names == tuple(item["name"] for item in table["classes"])
        assert dataset.labels.ignore_name == table["ignore_name"]
        pixels = np.array([*dataset.class_pixels, dataset.ignored_pixels])
        assert pixels.sum() == len(dataset) * shape[0] * shape[1]
        np.testing.assert_allclose(pixels / pixels.sum() * 100, TABLES[name][part], atol=0.005001)
        sample = dataset[0]
        assert sample.image.shape == (3, *shape)
        assert sample.mask.shape == shape
    assert "no test part" in " ".join(parts.notes)


@needs("crackforest")
def test_real_data_is_understood_without_its_list_of_classes(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).symlink_to((DATA / "crackforest" / part).resolve())
    parts = folder(tmp_path)
    assert parts["train"].labels.values == {0: 0, 1: 1, 255: 255}
    assert parts["train"].labels.names == ("background", "foreground")
    assert "255 (0.01% of the pixels) is void" in " ".join(parts.notes)


@needs("bsds500")
def test_regions_are_no_classes():
    with pytest.raises(UsageError, match="numbered without a gap"):
        folder(DATA / "bsds500")
    parts = folder(DATA / "bsds500", mask_folder="boundaries")
    assert parts["train"].labels.num_classes == 10


def test_links_that_lead_back_are_not_followed(tmp_path):
    root = write_folder(tmp_path, [blocks(0, 1)] * 8)
    (root / "images" / "again").symlink_to(root / "images", target_is_directory=True)
    (root / "masks" / "up").symlink_to(root, target_is_directory=True)
    assert sum(len(part) for part in folder(root).values()) == 8
