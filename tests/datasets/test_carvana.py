"""Carvana in the layout that Kaggle's archives have."""

import numpy as np
import pytest
from image_files import blocks, photo, save
from PIL import Image

from truemask.datasets.carvana import LABELS, carvana
from truemask.errors import UsageError

CARS = ("fff9b3a5373f", "00087a6bd4dc")
MASK = blocks(0, 1, 1, 0, height=10, width=12)


def gif(path, indices, colors):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette([part for color in colors for part in color])
    image.save(path, format="GIF", optimize=False)


def write(root, views=("02", "01", "16")):
    for car in CARS:
        for view in views:
            save(root / "train" / f"{car}_{view}.jpg", photo(10, 12, seed=int(view)))
            path = root / "train_masks" / f"{car}_{view}_mask.gif"
            gif(path, MASK, [(0, 0, 0), (255, 255, 255)])
    (root / "train" / "._fff9b3a5373f_01.jpg").touch()
    (root / "train_masks.csv").write_text("img,rle_mask\n")
    (root / "metadata.csv").write_text("id,year,make,model,trim1,trim2\n")
    return root


def test_one_part_with_the_cars_and_their_views(tmp_path):
    parts = carvana(write(tmp_path))
    assert list(parts) == ["train"]
    assert parts.notes == (
        "The parts (6 train) are all that have masks.",
        "There is no validation part: data.split makes one.",
        "The 16 photos of a car are alike: split by the attribute car (data.split.group=car).",
    )
    assert parts.division == parts.notes
    assert parts["train"].names == tuple(
        f"{car}_{view}" for car in sorted(CARS) for view in ("01", "02", "16")
    )
    for sample, attributes in zip(parts["train"], parts["train"].attributes, strict=True):
        car, _, view = sample.name.partition("_")
        assert sample.attributes == attributes == {"car": car, "view": view}
        assert np.array_equal(sample.mask, MASK)
        assert tuple(sample.image.shape) == (3, 10, 12)
    assert LABELS.num_logits == 1


@pytest.mark.parametrize(
    ("indices", "colors"),
    [
        (MASK, [(0, 0, 0), (255, 255, 255)]),
        (MASK, [(0, 0, 0), (1, 1, 1)]),
        (MASK, [(0, 0, 0), (200, 30, 40)]),
        (1 - MASK, [(255, 255, 255), (0, 0, 0)]),
        (MASK * 255, [(level, level, level) for level in range(256)]),
        (MASK, [(level, level, level) for level in range(256)]),
    ],
)
def test_every_kind_of_gif_is_the_same_mask(tmp_path, indices, colors):
    write(tmp_path)
    gif(tmp_path / "train_masks" / f"{CARS[0]}_01_mask.gif", indices.astype(np.uint8), colors)
    dataset = carvana(tmp_path)["train"]
    assert np.array_equal(dataset[dataset.names.index(f"{CARS[0]}_01")].mask, MASK)


@pytest.mark.parametrize("step", [1, 255])
def test_png_masks_are_read_too(tmp_path, step):
    write(tmp_path)
    for path in sorted((tmp_path / "train_masks").iterdir()):
        path.unlink()
        save(path.with_suffix(".png"), MASK * step)
    assert all(np.array_equal(sample.mask, MASK) for sample in carvana(tmp_path)["train"])


def test_the_gif_is_the_original_where_there_are_both(tmp_path):
    write(tmp_path)
    save(tmp_path / "train_masks" / f"{CARS[0]}_01_mask.png", MASK * 0)
    assert all(np.array_equal(sample.mask, MASK) for sample in carvana(tmp_path)["train"])


def test_a_grey_between_car_and_background_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "train_masks" / f"{CARS[1]}_01_mask.gif"
    path.unlink()
    save(path.with_suffix(".png"), blocks(0, 128, 255, height=10, width=12))
    with pytest.raises(UsageError, match=r"_01_mask\.png: value 128 \(40 pixels\) stands in no c"):
        carvana(tmp_path)["train"][0]


def test_run_lengths_alone_are_not_enough(tmp_path):
    write(tmp_path)
    (tmp_path / "train_masks").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"train_masks\.csv holds run lengths, which are not read"):
        carvana(tmp_path)
    (tmp_path / "train_masks.zip").touch()
    with pytest.raises(UsageError, match=r"train_masks\.zip is still packed: extract it, so that"):
        carvana(tmp_path)


def test_what_is_missing_is_told(tmp_path):
    wanted = (
        r"no train in it; it must look like train/\*\.jpg .* https://www\.kaggle\.com.*register"
    )
    with pytest.raises(UsageError, match=wanted):
        carvana(tmp_path)
    with pytest.raises(UsageError, match=r"nowhere does not exist, so Carvana is not there"):
        carvana(tmp_path / "nowhere")
    (tmp_path / "train").touch()
    with pytest.raises(UsageError, match=r"train is a file, not a folder of Carvana"):
        carvana(tmp_path)
    (tmp_path / "train").unlink()
    (tmp_path / "train").mkdir()
    (tmp_path / "train_masks").mkdir()
    with pytest.raises(UsageError, match=r"train_masks holds no \.png or \.gif files"):
        carvana(tmp_path)


def test_images_and_masks_that_stand_alone(tmp_path):
    write(tmp_path)
    (tmp_path / "train_masks" / f"{CARS[0]}_01_mask.gif").unlink()
    with pytest.raises(UsageError, match=rf"1 images have no masks \({CARS[0]}_01\): extract"):
        carvana(tmp_path)
    (tmp_path / "train" / f"{CARS[0]}_01.jpg").unlink()
    (tmp_path / "train" / f"{CARS[0]}_02.jpg").unlink()
    with pytest.raises(UsageError, match=rf"1 masks have no images \({CARS[0]}_02\)"):
        carvana(tmp_path)


def test_a_name_without_a_view_is_refused(tmp_path):
    write(tmp_path)
    save(tmp_path / "train" / "holiday.jpg", photo(10, 12))
    save(tmp_path / "train_masks" / "holiday_mask.png", MASK)
    with pytest.raises(UsageError, match=r"train/holiday\.jpg is not named as Carvana's images"):
        carvana(tmp_path)
