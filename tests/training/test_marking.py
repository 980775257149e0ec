"""`data.exclude` and `data.ignore_regions`: what a list says is wrong does not train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from truemask.errors import UsageError
from truemask.miniatures.writing import write_miniature
from truemask.training.opening import open_parts
from truemask.training.settings import DataSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = write_miniature("bdd100k", tmp_path_factory.mktemp("data") / "bdd", images=20)
    return {"_target_": "truemask.datasets.bdd100k.bdd100k", "root": str(root)}


def opened(data: dict[str, Any], *, training: bool = True, **settings: Any) -> Any:
    return open_parts(DataSettings(dataset=data, **settings), training=training)


def listed(tmp_path: Path, text: str) -> str:
    file = tmp_path / "list.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


BOX = "what,name,image_width,image_height,left,top,width,height\n"


def test_flagged_images_leave_train_and_validation_but_never_test(data, tmp_path: Path) -> None:
    plain, _ = opened(data, split={"_target_": "truemask.data.splits.Ratio"})
    names = {part: list(plain[part].names) for part in ("train", "validation", "test")}
    chosen = [names["train"][1], names["validation"][0], names["test"][0]]
    file = listed(tmp_path, "name\n" + "\n".join(chosen) + "\n")
    parts, _ = opened(data, split={"_target_": "truemask.data.splits.Ratio"}, exclude=file)
    assert list(parts["train"].names) == [n for n in names["train"] if n not in chosen]
    assert list(parts["validation"].names) == [n for n in names["validation"] if n not in chosen]
    assert list(parts["test"].names) == names["test"]
    for name, sample in zip(parts["train"].names, parts["train"], strict=False):
        assert sample.name == name
    (note,) = [note for note in parts.notes if "data.exclude" in note]
    assert f"1 of {len(names['train'])} train images" in note
    assert "1 flagged image of the test part stays in" in note


def test_flagged_regions_are_ignored_where_the_image_trains(data, tmp_path: Path) -> None:
    plain, _ = opened(data)
    sample = plain["train"][0]
    height, width = sample.mask.shape
    file = listed(tmp_path, BOX + f"region,{sample.name},{width},{height},3,4,10,5\n")
    parts, settled = opened(data, ignore_regions=file)
    wanted = np.asarray(sample.mask).copy()
    wanted[4:9, 3:13] = 255
    assert np.array_equal(np.asarray(parts["train"][0].mask), wanted)
    assert any("1 region of 1 training image (50 pixels" in note for note in parts.notes)
    # Scores of the training part are of its labels as they are.
    judged, _ = opened(data, training=False, ignore_regions=file)
    assert np.array_equal(np.asarray(judged["train"][0].mask), np.asarray(sample.mask))
    # A run that goes on insists on the file that it began with.
    splits = {name: list(part.names) for name, part in parts.items()}
    again, _ = open_parts(settled, training=True, assignments=splits)
    assert np.array_equal(np.asarray(again["train"][0].mask), wanted)
    Path(file).write_text(Path(file).read_text() + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="not what the run began with"):
        open_parts(settled, training=True, assignments=splits)


def test_regions_follow_the_training_masks_to_another_size(data, tmp_path: Path) -> None:
    plain, _ = opened(data, resize=[33, 60], crop=None)
    sample = opened(data)[0]["train"][0]
    height, width = sample.mask.shape
    file = listed(tmp_path, BOX + f"region,{sample.name},{width},{height},0,0,{width},{height}\n")
    parts, _ = opened(data, resize=[33, 60], crop=None, ignore_regions=file)
    assert np.asarray(parts["train"][0].mask).shape == (33, 60)
    assert (np.asarray(parts["train"][0].mask) == 255).all()
    assert np.array_equal(np.asarray(parts["train"][1].mask), np.asarray(plain["train"][1].mask))


@pytest.mark.parametrize("key", ["exclude", "ignore_regions"])
def test_a_list_that_would_change_nothing_is_refused(data, tmp_path: Path, key: str) -> None:
    parts, _ = opened(data, split={"_target_": "truemask.data.splits.Ratio"})
    name = parts["test"].names[0]
    row = f"{name},,,,,," if key == "exclude" else f"{name},9,9,0,0,1,1"
    what = "image" if key == "exclude" else "region"
    file = listed(tmp_path, BOX + f"{what},{row}\n")
    with pytest.raises(UsageError, match=f"data.{key}"):
        opened(data, split={"_target_": "truemask.data.splits.Ratio"}, **{key: file})


def test_a_slip_in_a_row_of_the_other_kind_is_told_too(data, tmp_path: Path) -> None:
    name = opened(data)[0]["train"].names[0]
    image, region = f"image,{name},,,,,,\n", f"region,{name},160,90,0,0,9,9\n"
    slip = f"{name}x"
    for key, own, other in (
        ("exclude", image, region.replace(name, slip)),
        ("ignore_regions", region, image.replace(name, slip)),
    ):
        file = listed(tmp_path, BOX + own + other)
        with pytest.raises(UsageError, match=f"line 3: the data has no image called {slip}"):
            opened(data, **{key: file})


def test_generated_samples_have_nothing_to_leave_out(tmp_path: Path) -> None:
    textures = {"_target_": "truemask.datasets.textures.textures", "size": 16}
    with pytest.raises(UsageError, match="generated"):
        opened(textures, exclude=listed(tmp_path, "name\na\n"))
