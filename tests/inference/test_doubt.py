"""Warnings beside masks: by the training's notes in the bundle, in every way to predict."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from truemask.bundle import INPUTS, Bundle, load_bundle, save_bundle
from truemask.checks.input_features import as_taken
from truemask.checks.inputs import Known, check_input, describe_images
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


def first_format(known: Known) -> dict:
    """The same notes as the first version wrote them: eighteen figures an image, no format."""
    value = known.to_json()
    del value["format"]
    return value | {"features": {key: row[:18] for key, row in value["features"].items()}}


def test_notes_of_the_first_format_keep_its_rule(tmp_path: Path) -> None:
    """Distances written anew from the rule's description, without the code under test."""
    known = describe_images(photo(seed) for seed in range(40))
    old = load_bundle(save(tmp_path, inputs=first_format(known)))
    table = np.array([row[:18] for row in known.features.values()])
    spread = table.std(0) + 0.02
    scaled = (table - table.mean(0)) / spread
    shrink = 0.5 * 18 / 40
    inverse = np.linalg.inv((1 - shrink) * np.cov(scaled.T, bias=True) + shrink * np.eye(18))

    def nearest(one: np.ndarray, others: np.ndarray) -> float:
        apart = (others - one) / spread
        return float(np.sort(np.sqrt(np.einsum("nf,fg,ng->n", apart, inverse, apart)))[:3].mean())

    # Each against the rest, of which a fiftieth, the most like it, does not count: none of 40.
    limit = 1.4 * np.quantile(
        [nearest(row, np.delete(table, i, axis=0)) for i, row in enumerate(table)], 0.99
    )
    for change in (lambda x: x, lambda x: 255 - x, lambda x: x // 4, lambda x: x[..., ::-1]):
        image = change(photo(100))
        seen = np.array(next(iter(describe_images([image]).features.values())))[:18]
        doubt = find_doubt(old, tensor(image.copy()))
        assert doubt is not None
        assert doubt.unlikeness == pytest.approx(nearest(seen, table) / limit, rel=1e-4)


def test_grey_and_turned_images_are_warned_of_only_by_the_new_notes(tmp_path: Path) -> None:
    """Light from above, blue against red: what a distance over all figures hardly sees."""

    def scene(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        light = np.linspace(rng.uniform(170, 230), rng.uniform(50, 110), 96)[:, None, None]
        colors = rng.normal(0, rng.uniform(4, 9), (12, 16, 3)).repeat(8, 0).repeat(8, 1)
        pixels = light * rng.uniform(0.9, 1.1, 3) + colors + rng.normal(0, 8, (96, 128, 3))
        return np.clip(pixels, 0, 255).astype(np.uint8)

    known = describe_images(scene(seed) for seed in range(60))
    new = load_bundle(save(tmp_path / "new", inputs=known.to_json()))
    old = load_bundle(save(tmp_path / "old", inputs=first_format(known)))
    changes = {
        "colour": lambda x: x[..., 1:2].repeat(3, axis=2),
        "above": lambda x: x[::-1],
        "sharp": lambda x: np.array(Image.fromarray(x).filter(ImageFilter.GaussianBlur(2))),
    }
    for word, change in changes.items():
        doubts = [find_doubt(new, tensor(change(scene(seed)).copy())) for seed in range(100, 110)]
        assert all(doubt is not None and word in str(doubt.warning) for doubt in doubts)
    usual = [find_doubt(new, tensor(scene(seed))) for seed in range(100, 150)]
    assert sum(doubt is not None and doubt.warning is not None for doubt in usual) <= 2
    turned = find_doubt(old, tensor(scene(100)[::-1].copy()))
    assert turned is not None
    assert turned.warning is None


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, "uint8"), (1, "float32"), (3, "float32"), (5, "float32")]
)
def test_other_channels_and_ranges(channels: int, dtype: str) -> None:
    """A model of grey images has no colours to hold against anything."""

    def image(seed: int) -> np.ndarray:
        pixels = photo(seed)[..., [0, 1, 2, 0, 1][:channels]]
        return pixels if dtype == "uint8" else pixels.astype(np.float32) / 255

    known = describe_images(image(seed) for seed in range(40))
    assert known.dtype == dtype
    assert sum(bool(check_input(image(seed), known)) for seed in range(100, 150)) <= 1
    assert all(check_input(image(seed) * 0 + image(0).max(), known) for seed in range(3))
    assert Known.from_json(json.loads(json.dumps(known.to_json()))) == known


def test_notes_of_a_later_version_are_one_line(tmp_path: Path) -> None:
    known = describe_images(photo(seed) for seed in range(9)).to_json()
    bundle = load_bundle(save(tmp_path, inputs=known | {"format": 3}))
    with pytest.raises(UsageError, match=r"inputs.json.*format is 3") as error:
        find_doubt(bundle, tensor(photo(0)))
    assert "\n" not in str(error.value)


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
        '{"format": [2], "features": {}, "dtype": "uint8", "high": 255, "channels": 3}',
        '{"format": 2, "features": {"a": [1, 2]}, "dtype": "uint8", "high": 255, "channels": 3}',
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
