"""CamVid: the original's colours, SegNet's grouping of them, and the copies in 11 classes."""

from pathlib import Path

import numpy as np
import pytest
from image_files import blocks, photo, save
from test_folder import DATA, needs

from truemask.datasets.camvid import camvid
from truemask.datasets.class_table import read_class_table
from truemask.errors import UsageError

# The dataset's own `label_colors.txt`.
LABEL_COLORS = """
64 128 64	Animal
192 0 128	Archway
0 128 192	Bicyclist
0 128 64	Bridge
128 0 0		Building
64 0 128	Car
64 0 192	CartLuggagePram
192 128 64	Child
192 192 128	Column_Pole
64 64 128	Fence
128 0 192	LaneMkgsDriv
192 0 64	LaneMkgsNonDriv
128 128 64	Misc_Text
192 0 192	MotorcycleScooter
128 64 64	OtherMoving
64 192 128	ParkingBlock
64 64 0		Pedestrian
128 64 128	Road
128 128 192	RoadShoulder
0 0 192		Sidewalk
192 128 128	SignSymbol
128 128 128	Sky
64 128 192	SUVPickupTruck
0 0 64		TrafficCone
0 64 64		TrafficLight
192 64 128	Train
128 128 0	Tree
192 128 192	Truck_Bus
64 0 64		Tunnel
192 192 0	VegetationMisc
0 0 0		Void
64 192 0	Wall
"""
ROWS = [line.split() for line in LABEL_COLORS.split("\n") if line]
NAMES = [row[3] for row in ROWS]
ALL = np.array([row[:3] for row in ROWS]).astype(np.uint8).reshape(2, 16, 3)

# Which labels make up each class of SegNet, as MATLAB's example on CamVid lists them.
GROUPS = {
    "sky": "Sky",
    "building": "Bridge Building Wall Tunnel Archway",
    "pole": "Column_Pole TrafficCone",
    "road": "Road LaneMkgsDriv LaneMkgsNonDriv",
    "pavement": "Sidewalk ParkingBlock RoadShoulder",
    "tree": "Tree VegetationMisc",
    "sign": "SignSymbol Misc_Text TrafficLight",
    "fence": "Fence",
    "car": "Car SUVPickupTruck Truck_Bus Train OtherMoving",
    "pedestrian": "Pedestrian Child CartLuggagePram Animal",
    "bicyclist": "Bicyclist MotorcycleScooter",
}
FRAMES = ("0001TP_006690", "0006R0_f00930", "0016E5_07959", "Seq05VD_f00000")


def write_original(root: Path) -> Path:
    for name in FRAMES:
        save(root / "701_StillsRaw_full" / f"{name}.png", photo(2, 16))
        save(root / "LabeledApproved_full" / f"{name}_L.png", ALL)
    return root


def write_segnet(root: Path) -> Path:
    for part, names in (("train", FRAMES[:2]), ("val", FRAMES[2:3]), ("test", FRAMES[3:])):
        for name in names:
            save(root / part / f"{name}.png", photo())
            save(root / f"{part}annot" / f"{name}.png", blocks(*range(12)))
    return root


def write_copy(root: Path) -> Path:
    for part, name in (("train", FRAMES[0]), ("val", FRAMES[2])):
        save(root / part / "images" / f"{name}.jpg", photo())
        save(root / part / "masks" / f"{name}.png", blocks(*range(12)))
    return root


def test_32_labels(tmp_path):
    part = camvid(write_original(tmp_path), classes=32)["train"]
    assert list(part.labels.names) == [name for name in NAMES if name != "Void"]
    ids = part[0].mask.flatten().tolist()
    shown = [part.labels.names[i] if i != 255 else "Void" for i in ids]
    assert shown == NAMES
    assert [tuple(part.labels.palette[i]) for i in ids if i != 255] == [
        tuple(int(c) for c in row[:3]) for row in ROWS if row[3] != "Void"
    ]


def test_11_classes_of_the_original(tmp_path):
    part = camvid(write_original(tmp_path))["train"]
    assert part.labels.names == tuple(GROUPS)
    group = {label: name for name, labels in GROUPS.items() for label in labels.split()}
    wanted = [list(GROUPS).index(group[n]) if n != "Void" else 255 for n in NAMES]
    assert part[0].mask.flatten().tolist() == wanted


@pytest.mark.parametrize("write", [write_segnet, write_copy])
def test_11_classes_of_a_copy(tmp_path, write):
    parts = camvid(write(tmp_path))
    assert parts["train"].labels.names == tuple(GROUPS)
    mask = blocks(*range(12))
    mask[mask == 11] = 255
    for part in parts.values():
        assert np.array_equal(part[0].mask, mask)


def test_parts_of_the_copies(tmp_path):
    parts = camvid(write_segnet(tmp_path / "segnet"))
    assert [part.names for part in parts.values()] == [FRAMES[:2], FRAMES[2:3], FRAMES[3:]]
    assert parts.notes == ("The parts (2 train, 1 validation, 1 test) are those on disk.",)
    assert list(camvid(write_copy(tmp_path / "copy"))) == ["train", "validation"]


def test_the_sequence_is_an_attribute(tmp_path):
    part = camvid(write_original(tmp_path))["train"]
    drives = [attributes["sequence"] for attributes in part.attributes]
    assert drives == ["0001TP", "0006R0", "0016E5", "Seq05VD"]
    assert part[3].attributes == {"sequence": "Seq05VD"}


def test_lists_divide_the_original(tmp_path):
    write_original(tmp_path)
    parts = camvid(tmp_path)
    assert {name: len(part) for name, part in parts.items()} == {"train": 4}
    assert parts.notes[0].endswith("are one, as there are no train.txt and val.txt.")
    (tmp_path / "train.txt").write_text(
        f"/SegNet/CamVid/train/{FRAMES[1]}.png /SegNet/CamVid/trainannot/{FRAMES[1]}.png\n"
    )
    (tmp_path / "val.txt").write_text(f"{FRAMES[0]}.png\n{FRAMES[3]}\n")
    parts = camvid(tmp_path)
    assert parts["train"].names == (FRAMES[1],)
    assert parts["validation"].names == (FRAMES[0], FRAMES[3])
    assert parts["validation"].attributes[0] == {"sequence": "0001TP"}
    assert parts.notes[0] == "The parts (1 train, 2 validation) are those of train.txt, val.txt."
    assert parts.notes[-1] == "1 frames stand in no list (0016E5_07959): left out."


def test_lists_that_do_not_fit(tmp_path):
    write_original(tmp_path)
    (tmp_path / "train.txt").write_text("0001TP_000000.png")
    with pytest.raises(UsageError, match=r"train\.txt names 1 frames that 701.* \(0001TP_000000\)"):
        camvid(tmp_path)
    for part in ("train", "val"):
        (tmp_path / f"{part}.txt").write_text(FRAMES[0])
    with pytest.raises(UsageError, match="name 0001TP_006690 more than once"):
        camvid(tmp_path)


def test_unknown_options(tmp_path):
    with pytest.raises(UsageError, match="classes is 12; CamVid has 11 or 32"):
        camvid(tmp_path, classes=12)
    with pytest.raises(UsageError, match="is a copy of CamVid in 11 classes"):
        camvid(write_copy(tmp_path), classes=32)


def test_half_a_download_is_refused(tmp_path):
    (write_original(tmp_path) / f"LabeledApproved_full/{FRAMES[2]}_L.png").unlink()
    with pytest.raises(UsageError, match=r"1 files are missing .*0016E5_07959_L\.png"):
        camvid(tmp_path)


@pytest.mark.parametrize("write", [write_original, write_segnet, write_copy])
def test_a_whole_folder_is_missing(tmp_path, write):
    write(tmp_path)
    for name in ("LabeledApproved_full", "valannot", "val/masks"):
        if (tmp_path / name).is_dir():
            (tmp_path / name).rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is no CamVid folder"):
        camvid(tmp_path)


def test_what_is_no_camvid_folder(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match=r"mi\.eng\.cam\.ac\.uk") as caught:
            camvid(path)
        assert "LabeledApproved_full/*_L.png" in str(caught.value)
        assert "\n" not in str(caught.value)


@needs("camvid")
def test_the_real_copy():
    parts = camvid(DATA / "camvid")
    assert {name: len(part) for name, part in parts.items()} == {"train": 367, "validation": 101}
    table = read_class_table(DATA / "camvid" / "classes.json").names
    assert parts["train"].labels.names == tuple(table)
    drives = {name: {a["sequence"] for a in part.attributes} for name, part in parts.items()}
    assert drives == {"train": {"0001TP", "0006R0", "0016E5"}, "validation": {"0016E5"}}
    pixels = np.zeros(256, dtype=np.int64)
    for sample in parts["validation"]:
        pixels += np.bincount(sample.mask.numpy().ravel(), minlength=256)
    # The shares in percent that stand beside the data.
    shares = [9.18, 25.96, 0.56, 28.95, 8.72, 16.34, 0.89, 3.08, 1.75, 0.65, 2.22]
    assert np.allclose(pixels[:11] / pixels.sum() * 100, shares, atol=0.005)
    assert pixels[255] / pixels.sum() * 100 == pytest.approx(1.70, abs=0.005)
