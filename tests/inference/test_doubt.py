"""Warnings beside masks: by the training's notes in the bundle, in every way to predict."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from truemask.bundle import INPUTS, Bundle, load_bundle, save_bundle
from truemask.checks.input_features import as_taken
from truemask.checks.inputs import check_input, describe_images
from truemask.cli import main
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.doubt import Thinning, find_doubt
from truemask.inference.loaded import LoadedModel
from truemask.inference.predict import predict
from truemask.inference.summary import SUMMARY
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.texture_cnn import TextureCNN
from truemask.models.unet import UNet


def photo(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = np.linspace(60, 160, size[0])[:, None, None] * np.array([1.0, 0.95, 0.9])
    pixels = base * rng.uniform(0.8, 1.2) + rng.normal(0, 12, (*size, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def save(folder: Path, *, inputs: dict | None, size: tuple[int, int] | None = None) -> Path:
    torch.manual_seed(0)
    network = {"in_channels": 3, "out_channels": 1, "widths": [4, 6]}
    save_bundle(
        folder,
        model=Segmenter(network=UNet(**network), images=ImageSpec(), size=size),
        network={"_target_": "truemask.models.unet.UNet", **network},
        labels=LabelMap(names=("background", "crack"), values={0: 0, 1: 1}),
        info={},
        inputs=inputs,
    )
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    known = describe_images(photo(seed) for seed in range(40))
    return load_bundle(save(tmp_path_factory.mktemp("model"), inputs=known.to_json()))


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor(pixels).permute(2, 0, 1)


def test_the_warning_is_that_of_the_check(bundle: Bundle) -> None:
    known = describe_images(photo(seed) for seed in range(40))
    changes = [lambda x: x, lambda x: 255 - x, lambda x: x // 4, lambda x: x[:40], lambda x: x[::3]]
    warned = []
    for seed, change in enumerate(changes):
        image = change(photo(100 + seed))
        doubt = find_doubt(bundle, tensor(image))
        assert doubt is not None
        warned.append(doubt.warning is not None)
        assert warned[-1] == bool(check_input(image, known))
    assert warned[:3] == [False, True, True]
    dark = find_doubt(bundle, tensor(photo(0) // 4))
    assert dark is not None
    assert "less" in str(dark.warning)
    assert "\n" not in str(dark.warning)


@pytest.mark.parametrize("size", [(300, 517), (129, 128), (70, 40)])
def test_parts_of_an_image_say_what_the_whole_says(bundle: Bundle, size: tuple[int, int]) -> None:
    image = tensor(photo(3, size))
    parts = Thinning(bundle, *size)
    rng = np.random.default_rng(0)
    tops = [0, *sorted(rng.choice(np.arange(1, size[0]), 5, replace=False)), size[0]]
    lefts = [0, 17, size[1]]
    for i in rng.permutation(len(tops) - 1):
        for j in range(2):
            part = image[:, tops[i] : tops[i + 1], lefts[j] : lefts[j + 1]]
            parts.add(part, top=int(tops[i]), left=lefts[j])
    assert parts.doubt() == find_doubt(bundle, image)


def test_a_bundle_without_notes_has_no_doubts(tmp_path: Path) -> None:
    bundle = load_bundle(save(tmp_path / "a", inputs=None))
    assert not (tmp_path / "a" / INPUTS).exists()
    assert find_doubt(bundle, tensor(255 - photo(0))) is None
    parts = Thinning(bundle, 96, 128)
    parts.add(tensor(photo(0)), top=0)
    assert parts.doubt() is None
    few = describe_images(photo(seed) for seed in range(3)).to_json()
    assert find_doubt(load_bundle(save(tmp_path / "b", inputs=few)), tensor(photo(0))) is None


def test_a_model_that_resizes_looks_at_what_it_sees(tmp_path: Path) -> None:
    spec, seen = ImageSpec(), (48, 64)
    images = [as_taken(tensor(photo(seed)), spec, size=seen) for seed in range(40)]
    known = describe_images(images).to_json()
    bundle = load_bundle(save(tmp_path, inputs=known, size=seen))
    doubts = [find_doubt(bundle, tensor(photo(seed))) for seed in range(100, 140)]
    assert sum(doubt is not None and doubt.warning is not None for doubt in doubts) <= 1


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"features": {"a": [1, 2]}, "dtype": "uint8", "high": 255, "channels": 3}',
        json.dumps({"features": {"a": [float("nan")] * 18}, "dtype": "uint8", "high": 1,
                    "channels": 3}),
        json.dumps({"features": {str(i): [i] * 18 for i in range(300)}, "dtype": "uint8",
                    "high": 1, "channels": 3}),
    ],
)  # fmt: skip
def test_damaged_notes_are_one_line_that_names_the_file(tmp_path: Path, content: str) -> None:
    (save(tmp_path, inputs=None) / INPUTS).write_text(content)
    with pytest.raises(UsageError, match=rf"{INPUTS}") as error:
        find_doubt(load_bundle(tmp_path), tensor(photo(0)))
    assert "\n" not in str(error.value)


def test_damaged_notes_end_a_prediction_before_its_first_image(tmp_path: Path, capsys) -> None:
    (save(tmp_path / "model", inputs=None) / INPUTS).write_text('{"features": {}}')
    Image.fromarray(photo(0)).save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "model"), str(tmp_path / "a.png"), "--out"]
    assert main([*words, str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert INPUTS in line
    assert not (tmp_path / "out").exists()


def test_table_json_and_notebook_say_it(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(200)).save(tmp_path / "in" / "like.png")
    Image.fromarray(255 - photo(201)).save(tmp_path / "in" / "unlike.png")
    result = predict(bundle, [tmp_path / "in"], tmp_path / "out")
    with (tmp_path / "out" / SUMMARY).open(newline="") as file:
        like, unlike = csv.DictReader(file)
    assert like["warning"] == ""
    assert float(like["unlikeness"]) < 1 < float(unlike["unlikeness"])
    assert unlike["warning"] == result.to_json()["written"][1]["warning"]
    assert [image.mask for image in result.warned] == ["unlike.png"]
    model = LoadedModel(bundle)
    found = model.predict(tmp_path / "in" / "unlike.png")
    assert found.warnings == (f"This image is {unlike['warning']}.",)
    assert "Look before you use" in found._repr_html_()
    assert "Look before you use" not in model.predict(photo(200))._repr_html_()


def test_a_table_of_version_0_1_is_added_to(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / SUMMARY).write_text(
        "file,mask,height,width,share_background,share_crack,confidence\n"
        "old.jpg,old.png,4,5,1.000000,0.000000,0.900000\n"
    )
    Image.fromarray(photo(1)).save(tmp_path / "new.png")
    predict(bundle, [tmp_path / "new.png"], tmp_path / "out")
    (tmp_path / "out" / SUMMARY).unlink()
    (tmp_path / SUMMARY).rename(tmp_path / "out" / SUMMARY)
    predict(bundle, [tmp_path / "new.png"], tmp_path / "out")
    with (tmp_path / "out" / SUMMARY).open(newline="") as file:
        old, new = csv.DictReader(file)
    assert old["mask"] == "old.png"
    assert old["warning"] == ""
    assert new["unlikeness"] != ""


def test_training_notes_its_images_and_predict_warns(tmp_path: Path, capsys) -> None:
    arguments = [f"runs={tmp_path}", "trainer.max_epochs=1", "data.dataset.train=12", "seed=0"]
    arguments += ["data.dataset.validation=4", "data.dataset.size=64", "checks.enabled=false"]
    assert main(["train", *arguments, "--json"]) == 0
    run = Path(json.loads(capsys.readouterr().out)["run"])
    bundle = load_bundle(run / "model")
    assert isinstance(bundle.model.network, TextureCNN)
    assert bundle.inputs is not None
    assert len(bundle.inputs.value["features"]) == 12
    white = np.full((64, 64), 255, np.uint8)
    Image.fromarray(white).save(tmp_path / "white.png")
    assert main(["predict", str(run), str(tmp_path / "white.png"), "--out", str(tmp_path)]) == 2
    capsys.readouterr()
    out = str(tmp_path / "out")
    assert main(["predict", str(run), str(tmp_path / "white.png"), "--out", out]) == 0
    assert "white.png: unlike the training images" in capsys.readouterr().out
