import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from truemask.datasets import camvid, cityscapes, voc
from truemask.errors import UsageError
from truemask.labels import pack_rgb
from truemask.miniatures.kinds import CAMVID_11, CAMVID_32, CITYSCAPES
from truemask.miniatures.photos import voc_palette
from truemask.miniatures.writing import MINIATURES, write_miniature

FEW = 10
every = pytest.mark.parametrize("name", MINIATURES)
# Enough for every class of the format to occur.
IMAGES = {
    "voc2012": 120, "voc2007": 120, "bdd100k": 40, "cityscapes": 48, "gta5": 30, "carvana": 20,
    "camvid": 24, "camvid32": 16, "bsds500": 12, "oxford_pet": 74, "folder": 20,
}  # fmt: skip
# What tells which images there are, and so depends on how many there are.
LISTS = (".txt", ".json", ".csv")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Name -> its miniature, written when it is first asked for."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            out = tmp_path_factory.mktemp(name) / "data"
            made[name] = write_miniature(name, out, images=IMAGES[name])
        return made[name]

    return get


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def values(path: Path) -> np.ndarray:
    return np.asarray(opened(path))


def stems(paths) -> list[str]:
    return sorted(path.stem for path in paths)


@every
def test_an_image_is_a_function_of_seed_and_number(written, name, tmp_path):
    few, other = (
        content(write_miniature(name, tmp_path / str(seed), images=FEW, seed=seed))
        for seed in (0, 1)
    )
    pictures = {path: data for path, data in few.items() if not path.endswith(LISTS)}
    assert len(pictures) >= 2 * FEW
    assert pictures.items() <= content(written(name)).items()
    assert not set(pictures.values()) & set(other.values())


@pytest.mark.parametrize("name", ["voc2012", "oxford_pet", "carvana", "bsds500", "bdd100k"])
def test_the_same_seed_gives_the_same_bytes(name, tmp_path):
    one, other = (write_miniature(name, tmp_path / folder, images=FEW) for folder in "ab")
    assert content(one) == content(other)


@every
def test_a_readme_says_that_the_pictures_are_generated(written, name):
    text = (written(name) / "README.txt").read_text()
    assert "not the real data" in text
    assert f"truemask sample {name} --images {IMAGES[name]} --seed 0 --out" in text
    assert "CC0" in text


@every
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty, and nothing is overwritten"):
        write_miniature(name, tmp_path, images=FEW)
    with pytest.raises(UsageError, match="is a file"):
        write_miniature(name, tmp_path / "kept.txt", images=FEW)
    assert content(tmp_path) == {"kept.txt": b"mine"}


def test_an_interrupted_writing_leaves_nothing(tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "empty"
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_miniature("voc2012", out, images=FEW, progress=interrupt)
    assert list(tmp_path.iterdir()) == [out]
    assert not any(out.iterdir())


def test_what_appears_meanwhile_is_kept(tmp_path):
    out = tmp_path / "out"

    def interfere(done: int, total: int) -> None:
        if done == total:
            out.mkdir()
            (out / "theirs").touch()

    with pytest.raises(UsageError, match="is not empty"):
        write_miniature("voc2012", out, images=FEW, progress=interfere)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_progress_counts_images_and_folders_are_made(tmp_path):
    seen: list[tuple[int, int]] = []
    out = write_miniature(
        "voc2007", tmp_path / "a" / "b", images=FEW, progress=lambda *step: seen.append(step)
    )
    assert seen == [(i + 1, FEW) for i in range(FEW)]
    assert out == tmp_path / "a" / "b"
    assert {path.name for path in out.iterdir()} == {"VOCdevkit", "README.txt"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "voc"}, r"'voc'; did you mean 'voc2012'\? \(there are voc2012, voc2007"),
        ({"images": 9}, r"images 9 must be from 10"),
        ({"images": 20_001}, r"images 20001 must be"),
        ({"seed": -1}, r"seed -1 must be 0 or greater"),
    ],
)
def test_wrong_usage(tmp_path, change, message):
    wanted = {"name": "voc2012", "out": tmp_path / "out", "images": FEW} | change
    with pytest.raises(UsageError, match=message):
        write_miniature(**wanted)
    assert not any(tmp_path.iterdir())


def test_tables_are_those_of_the_readers():
    rows = [(row.name, row.color, row.train_id) for row in cityscapes.LABELS if row.id >= 0]
    assert [row[:3] for row in CITYSCAPES] == rows
    assert [row[:2] for row in CAMVID_32] == [row[:2] for row in camvid.LABELS]
    groups = {label: name for name, _, labels in CAMVID_11 for label in labels}
    assert groups == {label: group for label, _, group in camvid.LABELS if group is not None}
    assert tuple((name, color) for name, color, _ in CAMVID_11) == camvid.SEGNET_CLASSES
    assert tuple(map(tuple, voc_palette()[:21].tolist())) == voc.COLORS


@pytest.mark.parametrize("year", ["2007", "2012"])
def test_voc(written, year):
    root = written(f"voc{year}") / "VOCdevkit" / f"VOC{year}"
    lists = root / "ImageSets" / "Segmentation"
    train, val, both = (
        (lists / f"{part}.txt").read_text().split() for part in ("train", "val", "trainval")
    )
    assert both == sorted(train + val)
    assert len(both) == 120
    assert stems((root / "SegmentationClass").iterdir()) == both
    assert stems((root / "SegmentationObject").iterdir()) == both
    assert set(both) < set(stems((root / "JPEGImages").iterdir()))

    counts = np.zeros(256, dtype=np.int64)
    for name in both:
        mask = opened(root / "SegmentationClass" / f"{name}.png")
        assert mask.mode == "P"
        assert mask.size == opened(root / "JPEGImages" / f"{name}.jpg").size
        assert mask.getpalette()[-3:] == [224, 224, 192]
        ids = np.asarray(mask)
        counts += np.bincount(ids.ravel(), minlength=256)
        objects = values(root / "SegmentationObject" / f"{name}.png")
        np.testing.assert_array_equal(objects == 255, ids == 255)
        np.testing.assert_array_equal(objects == 0, ids == 0)
    assert (counts[:21] > 0).all()
    assert counts[21:255].sum() == 0
    assert 0.025 < counts[255] / counts.sum() < 0.05
    assert 0.65 < counts[0] / counts.sum() < 0.8


def test_voc_names_have_years_and_years_look_different(written):
    root = written("voc2012") / "VOCdevkit" / "VOC2012"
    names = (root / "ImageSets" / "Segmentation" / "trainval.txt").read_text().split()
    assert [name[:4] for name in names] == sorted(str(2007 + i % 5) for i in range(120))
    blue_over_red = {
        year: np.mean(
            [
                values(root / "JPEGImages" / f"{name}.jpg").mean((0, 1)) @ (-1, 0, 1)
                for name in names
                if name.startswith(year)
            ]
        )
        for year in ("2007", "2011")
    }
    assert blue_over_red["2007"] + 8 < blue_over_red["2011"]
    assert len({opened(root / "JPEGImages" / f"{name}.jpg").size for name in names}) >= 4


def test_bdd100k(written):
    root = written("bdd100k")
    masks = sorted((root / "labels" / "sem_seg" / "masks").rglob("*.png"))
    counts = np.zeros(256, dtype=np.int64)
    roadless = 0
    for path in masks:
        ids = values(path)
        assert ids.shape == (180, 320)
        assert ids.dtype == np.uint8
        assert (root / "images" / "10k" / path.parent.name / f"{path.stem}.jpg").is_file()
        counts += np.bincount(ids.ravel(), minlength=256)
        roadless += not (ids == 0).any()
    assert len(masks) == 40
    assert (counts[:19] > 0).all()
    assert counts[19:255].sum() == 0
    assert counts[255] > 0
    assert 1 <= roadless <= 4

    parts = {part: root / "labels" / "det_20" / f"det_{part}.json" for part in ("train", "val")}
    records = [record for path in parts.values() for record in json.loads(path.read_text())]
    known = {record["name"].removesuffix(".jpg") for record in records}
    images = set(stems(masks))
    assert len(known) == len(records)
    assert images - known
    assert known - images
    assert all(record["labels"] == [] for record in records)
    assert {record["attributes"]["scene"] for record in records} == {
        "city street", "highway", "residential", "parking lot", "tunnel", "gas stations",
        "undefined",
    }  # fmt: skip
    assert {"clear", "overcast"} <= {record["attributes"]["weather"] for record in records}
    assert {"daytime", "night"} <= {record["attributes"]["timeofday"] for record in records}


def test_cityscapes(written):
    root = written("cityscapes")
    counts = np.zeros(34, dtype=np.int64)
    fixed = []
    for path in sorted((root / "gtFine").rglob("*_labelIds.png")):
        stem = path.name.removesuffix("_gtFine_labelIds.png")
        part, city = path.parent.parent.name, path.parent.name
        image = opened(root / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png")
        assert (image.mode, image.size) == ("RGB", (256, 128))
        assert stem.split("_")[0] == city
        ids = values(path)
        counts += np.bincount(ids.ravel(), minlength=34)
        fixed.append(np.where(np.isin(ids, (1, 2, 3)), ids, 0))
        colors = opened(path.with_name(f"{stem}_gtFine_color.png"))
        assert colors.mode == "RGBA"
        table = np.array([row.color for row in cityscapes.LABELS if row.id >= 0])
        np.testing.assert_array_equal(np.asarray(colors)[..., :3], table[ids])
        instances = values(path.with_name(f"{stem}_gtFine_instanceIds.png"))
        np.testing.assert_array_equal(np.where(instances > 33, instances // 1000, instances), ids)
        assert (instances[ids >= 24] >= 24_000).all()
    assert len(fixed) == 48
    # Id 0 is what nobody labelled; everything drawn here has a label.
    assert (counts[1:] > 0).all()
    assert all((one == fixed[0]).all() for one in fixed)
    assert {path.name for path in (root / "gtFine").iterdir()} == {"train", "val"}
    train, val = ({path.name for path in (root / "gtFine" / p).iterdir()} for p in ("train", "val"))
    assert len(train) > 2
    assert val
    assert not train & val


def test_gta5(written):
    root = written("gta5")
    names = stems((root / "images").iterdir())
    assert names == [f"{number:05d}" for number in range(1, 31)]
    assert stems((root / "labels").iterdir()) == names
    sizes, counts = [], np.zeros(35, dtype=np.int64)
    for name in names:
        label = opened(root / "labels" / f"{name}.png")
        assert label.mode == "P"
        assert label.getpalette()[7 * 3 : 7 * 3 + 3] == [128, 64, 128]
        counts += np.bincount(np.asarray(label).ravel(), minlength=35)
        sizes.append((opened(root / "images" / f"{name}.png").size, label.size))
    assert len({image for image, _ in sizes}) == 2
    assert sum(image != label for image, label in sizes) == 1
    benchmark = [row.id for row in cityscapes.LABELS if row.train_id != 255]
    assert (counts[benchmark] > 0).all()


def test_carvana(written):
    root = written("carvana")
    names = stems((root / "train").iterdir())
    assert len(names) == 20
    cars = {name[:-3] for name in names}
    assert len(cars) == 2
    first = max(cars, key=lambda car: sum(name.startswith(car) for name in names))
    assert [name[-2:] for name in names if name.startswith(first)] == [
        f"{view:02d}" for view in range(1, 17)
    ]
    rows = list(csv.DictReader((root / "train_masks.csv").read_text().splitlines()))
    assert [row["img"] for row in rows] == [f"{name}.jpg" for name in names]
    for row, name in zip(rows, names, strict=True):
        path = root / "train_masks" / f"{name}_mask.gif"
        assert path.read_bytes()[:4] == b"GIF8"
        mask = values(path) > 0
        assert mask.shape == (160, 240)
        assert 0.1 < mask.mean() < 0.5
        numbers = np.array(row["rle_mask"].split(), dtype=int)
        flat = np.zeros(mask.size, dtype=bool)
        for start, length in numbers.reshape(-1, 2):
            flat[start - 1 : start - 1 + length] = True
        np.testing.assert_array_equal(flat.reshape(mask.shape), mask)


def test_camvid(written):
    root = written("camvid")
    table = json.loads((root / "classes.json").read_text())
    assert [item["name"] for item in table["classes"]] == [row[0] for row in CAMVID_11]
    assert table["ignore_id"] == 11
    for part in ("train", "val", "test"):
        names = stems((root / part / "images").iterdir())
        assert stems((root / part / "masks").iterdir()) == names
        assert names
    counts = sum(
        np.bincount(values(path).ravel(), minlength=12) for path in root.glob("*/masks/*.png")
    )
    assert (counts > 0).all()
    assert "0001TP_006690" in stems((root / "train" / "images").iterdir())
    assert "0016E5_07959" in stems((root / "val" / "images").iterdir())
    assert "Seq05VD_f00000" in stems((root / "test" / "images").iterdir())


def test_neighbouring_frames_are_alike_and_not_the_same(written):
    masks = written("camvid") / "val" / "masks"
    frames = [values(path) for path in sorted(masks.iterdir())]
    following = np.mean([(a == b).mean() for a, b in zip(frames, frames[1:], strict=False)])
    train = written("camvid") / "train" / "masks"
    strangers = [values(next(iter(sorted(train.glob(f"{name}*"))))) for name in ("0001", "0006")]
    assert 0.9 < following < 1
    assert (strangers[0] == strangers[1]).mean() < following - 0.1


def test_camvid32(written):
    root = written("camvid32")
    names = stems((root / "701_StillsRaw_full").iterdir())
    assert stems((root / "LabeledApproved_full").iterdir()) == [f"{name}_L" for name in names]
    found = set()
    for path in (root / "LabeledApproved_full").iterdir():
        colors = values(path)
        assert colors.shape == (180, 240, 3)
        found |= set(np.unique(pack_rgb(colors)).tolist())
    assert found == set(pack_rgb(np.array([row[1] for row in CAMVID_32], dtype=np.uint8)).tolist())
    lines = (root / "label_colors.txt").read_text().splitlines()
    assert lines[0] == "64 128 64\tAnimal"
    assert len(lines) == 32


def test_bsds500(written):
    root = written("bsds500")
    for part in ("train", "val"):
        counts = json.loads((root / part / "counts.json").read_text())
        names = sorted(counts)
        for folder in ("images", "boundaries", "segmentations"):
            assert stems((root / part / folder).iterdir()) == names
        for name, people in counts.items():
            drawn = values(root / part / "boundaries" / f"{name}.png")
            regions = values(root / part / "segmentations" / f"{name}.png")
            assert 4 <= people <= 9
            assert people / 2 < drawn.max() <= people
            assert 0 < (drawn > 0).mean() < 0.3
            assert regions.dtype == np.uint16
            assert regions.min() == 1
            assert np.unique(regions).size == regions.max() > 1
            # The first one's own outlines are among what was drawn.
            across = regions[:, 1:] != regions[:, :-1]
            assert (drawn[:, :-1][across] > 0).all()


def test_oxford_pet(written):
    root = written("oxford_pet")
    lines = {
        part: [
            line.split()
            for line in (root / "annotations" / f"{part}.txt").read_text().splitlines()
            if not line.startswith("#")
        ]
        for part in ("list", "trainval", "test")
    }
    key = lambda words: words[0].lower()  # noqa: E731
    assert sorted(lines["trainval"] + lines["test"], key=key) == lines["list"]
    assert lines["trainval"]
    assert lines["test"]
    # Of the real list: NAME CLASS SPECIES BREED, the last counted within the species.
    assert ["Abyssinian_1", "1", "1", "1"] in lines["list"]
    assert ["american_bulldog_1", "2", "2", "1"] in lines["list"]
    assert ["Bengal_2", "6", "1", "2"] in lines["list"]
    assert ["yorkshire_terrier_1", "37", "2", "25"] in lines["list"]
    assert len({words[1] for words in lines["list"]}) == 37
    for words in lines["list"]:
        trimap = values(root / "annotations" / "trimaps" / f"{words[0]}.png")
        assert set(np.unique(trimap)) == {1, 2, 3}
        width, height = opened(root / "images" / f"{words[0]}.jpg").size
        assert trimap.shape == (height, width)


def test_folder(written):
    root = written("folder")
    table = json.loads((root / "classes.json").read_text())
    assert [item["id"] for item in table["classes"]] == list(range(7))
    assert stems((root / "images").iterdir()) == stems((root / "masks").iterdir())
    found = set()
    for path in (root / "masks").iterdir():
        found |= set(np.unique(values(path)).tolist())
    assert found == {*range(7), 255}
