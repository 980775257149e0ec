"""One COCO file of a folder: every annotation decoded back into the masks beside it."""

import json
import os
import shutil
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from truemask.cli import main
from truemask.errors import UsageError
from truemask.inference.coco_file import COCO, write_coco
from truemask.inference.predict import predict
from truemask.inference.predict_file import Outcome, predict_file
from truemask.inference.processes import in_processes
from truemask.inference.records import Record, model_key
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictedImage, add_to_summary
from truemask.inference.target import Target
from truemask.labels import LabelMap

SETTINGS = Settings(polygons=("coco",))
NAMES = ["0.png", "1.png", "10.png", "a/2.png", "a/b/3.png", "z.png"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        path = Path("in", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (20 + number, 30 - 2 * number, 3)
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return Path("in")


def read(out: str = "out") -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Path(out, COCO).read_text("utf-8"))
    return value


def decoded(value: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Image -> class ids, painted from the runs of its annotations; 255 where there is none."""
    found = {
        image["id"]: np.full((image["height"], image["width"]), 255, np.uint8)
        for image in value["images"]
    }
    for one in value["annotations"]:
        ids, counts = found[one["image_id"]], one["segmentation"]["counts"]
        assert one["segmentation"]["size"] == list(ids.shape)
        own = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(ids.shape, order="F")
        assert own.sum() == one["area"]
        assert (ids[own] == 255).all()
        ids[own] = one["category_id"]
    return {image["file_name"]: found[image["id"]] for image in value["images"]}


def masks(out: str = "out") -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.asarray(Image.open(Path(out, name).with_suffix(".png"))) for name in NAMES}


def test_every_annotation_is_of_its_image_and_gives_the_mask_back(bundle, images):
    result = predict(bundle, [images], Path("out"), settings=SETTINGS)
    assert result.coco == "out/coco.json"
    value = read()
    assert [image["file_name"] for image in value["images"]] == NAMES
    assert [image["id"] for image in value["images"]] == list(range(1, 7))
    numbers = [one["id"] for one in value["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))
    of = [one["image_id"] for one in value["annotations"]]
    assert of == sorted(of)
    assert set(of) == set(range(1, 7))
    assert [kind["name"] for kind in value["categories"]] == list(bundle.labels.names)
    assert {one["iscrowd"] for one in value["annotations"]} == {0}
    found = decoded(value)
    for name, expected in masks().items():
        np.testing.assert_array_equal(found[name], expected)
    # Each image's own file says the same of it.
    alone = json.loads(Path("out/a/2.coco.json").read_text())
    assert alone["images"][0]["file_name"] == "a/2.png"
    mine = [one for one in value["annotations"] if one["image_id"] == 4]
    plain = {"id": 0, "image_id": 0}
    assert [one | plain for one in mine] == [one | plain for one in alone["annotations"]]


def test_pycocotools_reads_it(bundle, images):
    coco = pytest.importorskip("pycocotools.coco", reason="needs `pip install pycocotools`")
    predict(bundle, [images], Path("out"), settings=SETTINGS)
    known = coco.COCO("out/coco.json")
    for number, name in enumerate(NAMES, start=1):
        ids = np.full(masks()[name].shape, 255, np.uint8)
        for one in known.loadAnns(known.getAnnIds(imgIds=[number])):
            ids[known.annToMask(one) == 1] = one["category_id"]
        np.testing.assert_array_equal(ids, masks()[name])


def test_calls_that_share_a_folder_and_processes_make_the_same_file(bundle_folder, bundle, images):
    predict(bundle, [images], Path("plain"), settings=SETTINGS)
    expected = Path("plain", COCO).read_bytes()
    for part in ((2, 3), (3, 3), (1, 3)):
        predict(bundle, [images], Path("parts"), settings=SETTINGS, part=part)
    assert Path("parts", COCO).read_bytes() == expected
    calling = in_processes(
        bundle_folder, count=2, settings=SETTINGS, key=model_key(bundle, SETTINGS)
    )
    predict(bundle, [images], Path("many"), settings=SETTINGS, calling=calling)
    assert Path("many", COCO).read_bytes() == expected
    assert not list(Path("many").glob(".*"))


def test_what_was_interrupted_has_none_until_it_is_done(bundle, images):
    predict(bundle, [images], Path("plain"), settings=SETTINGS)
    expected = Path("plain", COCO).read_bytes()
    key = model_key(bundle, SETTINGS)

    def ended(targets: Sequence[Target]) -> Iterator[tuple[int, Outcome]]:
        for index in range(3):
            yield index, predict_file(bundle, targets[index], settings=SETTINGS, key=key)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(bundle, [images], Path("out"), settings=SETTINGS, calling=ended)
    assert not Path("out", COCO).exists()
    result = predict(bundle, [images], Path("out"), settings=SETTINGS)
    assert (len(result.kept), len(result.written)) == (3, 3)
    assert Path("out", COCO).read_bytes() == expected
    # Nothing to do: the file is as it was, and is made anew where it is missing.
    assert predict(bundle, [images], Path("out"), settings=SETTINGS).written == []
    Path("out", COCO).rename("out/.coco.json.0123abcd.part")  # as of a process that was killed
    assert predict(bundle, [images], Path("out"), settings=SETTINGS).written == []
    assert Path("out", COCO).read_bytes() == expected
    assert not list(Path("out").glob(".*"))


def test_it_follows_the_masks(bundle, images):
    predict(bundle, [images], Path("out"), settings=SETTINGS)
    turned = Image.open(images / "z.png").transpose(Image.Transpose.ROTATE_90)
    turned.save(images / "z.png")
    predict(bundle, [images], Path("out"), settings=SETTINGS)
    np.testing.assert_array_equal(decoded(read())["z.png"], masks()["z.png"])
    # An image that is predicted anew without outlines is not in it any more.
    again = predict(bundle, [images / "0.png"], Path("out"))
    assert again.coco == "out/coco.json"
    assert [image["file_name"] for image in read()["images"]] == NAMES[1:]
    assert predict(bundle, [images], Path("out")).coco is None
    assert not Path("out", COCO).exists()


def test_files_of_others_are_neither_overwritten_nor_taken_in(bundle, images):
    Path("out").mkdir()
    Path("out/mine.coco.json").write_text("mine")
    Path("out/z.txt").write_text("mine")
    Path("out", COCO).write_text('{"images": []}')
    with pytest.raises(UsageError, match=r"out/coco\.json exists, and no prediction wrote it"):
        predict(bundle, [images], Path("out"), settings=SETTINGS)
    assert predict(bundle, [images], Path("out")).coco is None
    assert Path("out", COCO).read_text() == '{"images": []}'
    Path("out", COCO).unlink()
    predict(bundle, [images], Path("out"), settings=SETTINGS)
    assert [image["file_name"] for image in read()["images"]] == NAMES
    assert Path("out/mine.coco.json").read_text() == "mine"
    Path("out/1.coco.json").write_text("{}")
    with pytest.raises(UsageError, match=r"1\.coco\.json is no COCO file of an image"):
        write_coco(Path("out"), bundle.labels)
    assert [image["file_name"] for image in read()["images"]] == NAMES  # as it was


def test_an_image_that_got_another_mask_is_there_once(bundle, images):
    predict(bundle, [images], Path("out"), settings=SETTINGS)
    Image.open(images / "1.png").save(images / "1.bmp")
    predict(bundle, [images], Path("out"), settings=SETTINGS)
    assert Path("out/1.png").exists()
    assert Path("out/1.png.png").exists()
    assert [image["file_name"] for image in read()["images"]] == sorted([*NAMES, "1.bmp"])


def test_names_that_are_no_utf_8_are_in_it(bundle, images):
    given = (b"a/\xff.png", b"a/\xfe.png", b"a\\udcfe.png")  # the last only looks like an escape
    for name in given:
        shutil.copy(images / "0.png", os.path.join(b"in", name))
    predict(bundle, [images], Path("out"), settings=SETTINGS)
    names = [image["file_name"] for image in read()["images"]]
    assert sorted(names) == sorted([*NAMES, *map(os.fsdecode, given)])
    assert [os.path.exists(os.path.join("in", name)) for name in names] == [True] * 9


def test_the_command_says_where_it_is(bundle_folder, images, capsys):
    words = ["predict", str(bundle_folder), "in", "--out", "out", "--polygons", "coco"]
    assert main(words) == 0
    assert "Outlines of all images in out/coco.json." in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coco"] == "out/coco.json"


def test_the_memory_does_not_grow_with_the_images(tmp_path):
    labels = LabelMap(names=("a", "b"), values={})
    annotation = {
        "id": 1, "image_id": 1, "iscrowd": 0, "category_id": 0, "area": 1, "bbox": [0, 0, 1, 1],
        "segmentation": {"size": [2, 3], "counts": list(range(20_000))},
    }  # fmt: skip
    figures = {"height": 2, "width": 3}
    images = []
    for number in range(40):
        name = f"{number:03}"
        record = Record(f"{name}.jpg", "", figures, (".coco.json",))
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(
            tmp_path / f"{name}.png", pnginfo=record.png_info()
        )
        (tmp_path / f"{name}.coco.json").write_text(json.dumps({"annotations": [annotation]}))
        counts = dict.fromkeys(labels.names, 0)
        images.append(
            PredictedImage(file=f"{name}.jpg", mask=f"{name}.png", height=2, width=3,
                           shares={name: 0.5 for name in labels.names}, confidence=1, entropy=0,
                           pixels=counts)
        )  # fmt: skip
    add_to_summary(tmp_path, images, labels)
    tracemalloc.start()
    try:
        assert write_coco(tmp_path, labels) == 40
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / COCO).stat().st_size > 4_000_000
    assert most < 2_500_000
