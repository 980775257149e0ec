"""Rules of one part: every fault put into generated scenes is found; the scenes are sound."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from truemask.checks.masks import RULES, check_masks

H, W, K = 96, 128, 5
COLORS = np.array([(150, 190, 230), (90, 80, 70), (120, 120, 120), (200, 40, 40), (60, 130, 60)])
VOC = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)])


def scene(index):
    """Sky 0, building 1, road 2, cars 3 and trees 4, with noise; edges where classes meet."""
    rng = np.random.default_rng(index)
    mask = np.zeros((H, W), np.uint8)
    x = np.arange(W)
    roofs = rng.integers(20, 38) + rng.integers(-12, 13, W // 16).repeat(16)
    horizon = rng.integers(54, 66)
    rows = np.arange(H)[:, None]
    mask[rows >= roofs] = 1
    mask[(rows >= horizon + (x - 64) * rng.uniform(-0.08, 0.08))] = 2
    for value, low, high in ((4, 40, 60), (3, 60, 76), (3, 64, 82)):
        top, left = rng.integers(low, high - 6), rng.integers(2, W - 26)
        mask[top : top + rng.integers(8, 16), left : left + rng.integers(10, 24)] = value
    light = rng.normal(0, 12, (K, 3))
    image = (COLORS + light)[mask] + rng.normal(0, 7, (H, W, 3))
    return image.clip(0, 255).astype(np.uint8), mask


SCENES = [scene(index) for index in range(40)]


def found(pairs, **options):
    findings = check_masks(pairs, **{"num_classes": K, **options})
    return {(finding.code, finding.level) for finding in findings}


def changed(function, places=range(40)):
    return [
        (image, function(mask)) if place in places else (image, mask)
        for place, (image, mask) in enumerate(SCENES)
    ]


def resized(mask, how):
    small = Image.fromarray(mask).resize((W * 7 // 10, H * 7 // 10), Image.Resampling.NEAREST)
    return np.array(small.resize((W, H), how))


def through_jpeg(mask):
    held = io.BytesIO()
    Image.fromarray(mask).save(held, "JPEG", quality=90)
    return np.array(Image.open(held))


def painted(mask, rows, columns, value):
    mask = mask.copy()
    mask[rows, columns] = value
    return mask


def write(folder, pairs=SCENES[:12]):
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for place, (image, mask) in enumerate(pairs):
        Image.fromarray(image).save(folder / "images" / f"{place:02}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "masks" / f"{place:02}.png")
    return folder


def test_sound_scenes_are_sound_in_every_form(tmp_path):
    tensors = [
        {"image": torch.from_numpy(image).permute(2, 0, 1) / 255, "mask": torch.from_numpy(mask)}
        for image, mask in SCENES
    ]
    folder = write(tmp_path)
    files = [(str(p), str(folder / "masks" / f"{p.stem}.png")) for p in folder.glob("images/*")]
    for source in (SCENES, tensors, folder, files):
        assert found(source) == set()


EVERY = (
    ("shifted by 3", lambda m: np.roll(m, 3, 1), range(40), "TM105"),
    ("two shifted by 6", lambda m: np.roll(m, 6, 0), (5, 9), "TM105"),
    ("mirrored", lambda m: m[:, ::-1], range(40), "TM105"),
    ("two turned", lambda m: m[::-1, ::-1], (3, 30), "TM105"),
    ("bilinear", lambda m: resized(m * 2, Image.Resampling.BILINEAR), range(40), "TM106"),
    ("one bicubic", lambda m: resized(m * 2, Image.Resampling.BICUBIC), (7,), "TM106"),
    ("JPEG", lambda m: through_jpeg(m * 2), range(40), "TM106"),
    ("counted from 1", lambda m: m + 1, range(40), "TM107"),
    ("one id beyond", lambda m: painted(m, slice(0, 9), slice(0, 9), 17), (8,), "TM107"),
    ("divided by 255", lambda m: (m / 255).astype(np.float32), range(40), "TM107"),
    ("grey of colours", lambda m: np.array(Image.fromarray(VOC[m].astype(np.uint8)).convert("L")),
     range(40), "TM108"),
    ("colours", lambda m: VOC[m].astype(np.uint8), range(40), "TM108"),
)  # fmt: skip


@pytest.mark.parametrize(("edit", "places", "code"), [row[1:] for row in EVERY],
                         ids=[row[0] for row in EVERY])  # fmt: skip
def test_fault_in_masks_is_an_error(edit, places, code):
    classes = 9 if code == "TM106" else K
    assert (code, "error") in found(changed(edit, places), num_classes=classes)


def test_masks_of_other_images_are_found():
    pairs = [(SCENES[place][0], SCENES[(place + 7) % 40][1]) for place in range(40)]
    assert ("TM105", "error") in found(pairs)
    pairs = list(SCENES)
    pairs[3], pairs[20] = (SCENES[3][0], SCENES[20][1]), (SCENES[20][0], SCENES[3][1])
    (finding,) = check_masks(pairs, num_classes=K)
    assert finding.code == "TM105"
    pair = {"image": "sample 3", "mask": "sample 20"}
    assert pair in finding.evidence["pairs"]
    assert finding.pictures[0].pixels.shape[2] == 3


def test_nearest_resize_and_other_orders_of_ids_are_sound():
    nearest = [(i, resized(m * 2, Image.Resampling.NEAREST)) for i, m in SCENES]
    assert not {"TM106"} & {code for code, _ in found(nearest, num_classes=9)}
    order = np.array([3, 0, 4, 2, 1], np.uint8)
    assert found([(image, order[mask]) for image, mask in SCENES]) == set()


def test_foreground_of_255_is_ignored():
    def binary(mask):
        return np.where(mask == 3, 255, 0).astype(np.uint8)

    assert ("TM109", "error") in found(changed(binary), num_classes=2)
    assert found(changed(lambda m: binary(m) // 255), num_classes=2) == set()


def test_counts_of_classes():
    assert ("TM110", "warning") in found(SCENES, num_classes=K + 1)
    blank = changed(lambda m: np.full_like(m, 255), (4,))
    assert found(blank) == {("TM111", "warning")}


@pytest.mark.parametrize(
    ("loss", "warned"),
    [
        (nn.BCEWithLogitsLoss(), True),
        (nn.CrossEntropyLoss(), True),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(30.0)), False),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 30.0])), False),
        (lambda p, t: 1 - 2 * (p.sigmoid() * t).sum() / (p.sigmoid() + t).sum(), False),
        (lambda p, t: "no number", False),
        (None, False),
    ],
)
def test_imbalance_is_told_of_losses_that_do_nothing_about_it(loss, warned):
    thin = changed(lambda m: ((m == 3) & (np.arange(W) % 3 == 0)).astype(np.uint8))
    assert (("TM112", "warning") in found(thin, num_classes=2, loss=loss)) == warned


def test_suspicious_places():
    without_road = changed(lambda m: np.where(m == 2, 255, m), (11, 12))
    assert found(without_road) == {("TM113", "warning")}
    sky_below = changed(lambda m: painted(m, slice(88, 96), slice(30, 80), 0), (6,))
    assert ("TM114", "warning") in found(sky_below)


def test_bonnet_is_found_and_ignored_borders_are_not():
    rows, columns = np.mgrid[:H, :W]
    bonnet = ((columns - 64) / 50.0) ** 2 + ((rows - 104) / 22.0) ** 2 < 1
    labelled = [(np.where(bonnet[..., None], 20, i).astype(np.uint8),
                 np.where(bonnet, 3, m)) for i, m in SCENES]  # fmt: skip
    assert ("TM115", "warning") in found(labelled)
    ignored = [(i, np.where(bonnet, 255, m)) for i, m in labelled]
    assert found(ignored) == set()
    framed = changed(lambda m: np.pad(m[4:-4, 4:-4], 4, constant_values=255))
    assert found(framed) == set()


def test_objects_lost_by_resizing():
    specks = changed(lambda m: np.where((np.indices(m.shape) % 16 == 8).all(0), 4, m))
    assert ("TM116", "warning") in found(specks, train_size=(12, 16))
    assert not {"TM116"} & {code for code, _ in found(SCENES, train_size=(H, W))}


def test_files_that_are_broken_or_alone(tmp_path):
    folder = write(tmp_path)
    whole = (folder / "images" / "03.jpg").read_bytes()
    (folder / "images" / "03.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "masks" / "05.png").write_bytes(b"")
    (folder / "masks" / "07.png").unlink()
    findings = {f.code: f for f in check_masks(folder, num_classes=K)}
    assert findings.keys() == {"TM101", "TM102"}
    assert findings["TM101"].evidence["unreadable"] == 2
    assert Path(findings["TM102"].where).name == "07.jpg"


def test_broken_file_is_found_among_those_that_are_not_drawn(tmp_path):
    folder = write(tmp_path)
    for mask in (folder / "masks").iterdir():
        mask.write_bytes(mask.read_bytes()[:-30])
    (finding,) = [f for f in check_masks(folder, num_classes=K, limit=4) if f.code == "TM101"]
    assert finding.evidence["unreadable"] == 12
    assert finding.evidence["sampled"] == 4


def test_sizes_and_orientations(tmp_path):
    folder = write(tmp_path)
    Image.fromarray(SCENES[0][1]).resize((64, 48), 0).save(folder / "masks" / "00.png")
    exif = Image.Exif()
    for place, orientation in (("01", 6), ("02", 3)):
        exif[0x0112] = orientation
        path = folder / "images" / f"{place}.jpg"
        Image.open(path).save(path, quality=95, exif=exif)
    findings = {f.code: f for f in check_masks(folder, num_classes=K)}
    assert findings.keys() == {"TM103", "TM104"}
    assert findings["TM104"].evidence["orientations"] == [3, 6]
    assert findings["TM104"].level == "error"


def test_mask_saved_as_jpeg(tmp_path):
    folder = write(tmp_path)
    (folder / "masks" / "00.png").unlink()
    Image.fromarray(SCENES[0][1] * 60).save(folder / "masks" / "00.jpg")
    findings = {f.code: f for f in check_masks(folder, num_classes=K)}
    assert "a JPEG file" in findings["TM106"].message


def test_every_rule_explains_itself():
    for rule in RULES:
        for heading in ("Why it matters:", "How it decides:", "False alarms:", "How to mend:"):
            assert heading in rule.explanation, rule.code
