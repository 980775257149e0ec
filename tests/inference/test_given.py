"""Whatever is given to `truemask.load(...)` and `predict`: a mask, or one line that helps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

import truemask
from truemask.bundle import save_bundle
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.loaded import LoadedModel
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)
CHW = torch.tensor(RGB).permute(2, 0, 1)


def make(folder: Path, spec: ImageSpec) -> LoadedModel:
    network = {"in_channels": spec.channels, "out_channels": 3, "widths": [4, 6]}
    torch.manual_seed(0)
    save_bundle(
        folder,
        model=Segmenter(network=UNet(**network), images=spec),
        network={"_target_": "truemask.models.unet.UNet", **network},
        labels=LabelMap(names=("a", "b", "c"), values={}),
        info={},
    )
    return truemask.load(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    root = tmp_path_factory.mktemp("models")
    specs = {
        "rgb": ImageSpec(),
        "grey": ImageSpec(channels=1),
        "float": ImageSpec(dtype="float32", low=0.0, high=1.0),
    }
    return {name: make(root / name, spec) for name, spec in specs.items()}


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    return said


def with_value(value: float) -> np.ndarray:
    image = np.full((8, 9, 3), 0.5, np.float32)
    image[1, 2, 0] = value
    return image


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("rgb", RGB),
        ("rgb", RGB[::-1, ::-1]),
        ("rgb", np.asfortranarray(RGB)),
        ("rgb", CHW),
        ("rgb", CHW.contiguous()),
        ("rgb", tv_tensors.Image(CHW)),
        ("rgb", Image.fromarray(RGB)),
        ("rgb", Image.fromarray(RGB[..., 0])),
        ("rgb", Image.fromarray(RGB).convert("P")),
        ("grey", RGB[..., 0]),
        ("grey", RGB[..., :1]),
        ("grey", CHW[:1]),
        ("grey", Image.fromarray(RGB[..., 0]).convert("1")),
        ("float", with_value(1)),
        ("float", with_value(0).astype(">f4")),
        ("float", torch.full((3, 8, 9), 0.5, requires_grad=True)),
    ],
)
def test_what_is_an_image(models, name, image):
    found = models[name].predict(image)
    assert found.ids.shape == (8, 9)
    assert 0 < found.confidence <= 1


def test_all_ways_to_give_an_image_are_one(models):
    model = models["rgb"]
    expected = model.predict(RGB).ids
    for image in (CHW, CHW.contiguous(), Image.fromarray(RGB), np.asfortranarray(RGB)):
        assert (model.predict(image).ids == expected).all()


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        # Another type.
        ("rgb", RGB / 255, "takes images of dtype uint8 from 0 to 255, got float64"),
        ("rgb", RGB.astype(np.int64), "got int64"),
        ("rgb", RGB.astype(np.uint16), "got uint16"),
        ("rgb", RGB > 3, "got bool"),
        ("rgb", CHW.float(), "got float32"),
        ("rgb", CHW.bfloat16(), "got bfloat16"),
        ("float", RGB, "takes images of dtype float32 from 0 to 1, got uint8"),
        ("float", with_value(1).astype(float), "got float64"),
        ("rgb", np.array([["a"]]), "no pixels"),
        ("rgb", RGB.astype("M8[s]"), "no pixels"),
        ("rgb", np.array([[None]]), "ndarray is no image"),
        # Another shape.
        ("rgb", RGB[..., 0], "RGB images, as arrays of shape (H, W, 3), not of shape (8, 9)"),
        ("rgb", RGB[..., :1], "not of shape (8, 9, 1)"),
        ("rgb", np.zeros((8, 9, 4), np.uint8), "not of shape (8, 9, 4)"),
        ("rgb", RGB.transpose(2, 0, 1), "give image.transpose(1, 2, 0)"),
        ("rgb", RGB[0, 0], "not of shape (3,)"),
        ("rgb", RGB[None], "is a batch"),
        ("rgb", np.uint8(3), "uint8 is no image"),
        ("rgb", CHW.permute(1, 2, 0), "give image.permute(2, 0, 1)"),
        ("rgb", CHW[:1], "RGB images, as tensors of shape (3, H, W), not of shape (1, 8, 9)"),
        ("rgb", CHW[None], "is a batch"),
        ("rgb", CHW[0], "not of shape (8, 9)"),
        ("rgb", torch.tensor(1), "not of shape ()"),
        ("grey", RGB, "grey images, as arrays of shape (H, W, 1) or (H, W), not of shape (8, 9,"),
        ("grey", CHW, "not of shape (3, 8, 9)"),
        # Nothing in it.
        ("rgb", RGB[:0], "no pixels: it is 0 high and 9 wide"),
        ("rgb", RGB[:, :0], "no pixels: it is 8 high and 0 wide"),
        ("rgb", CHW[:, :0], "no pixels"),
        ("rgb", Image.new("RGB", (0, 8)), "no pixels"),
        ("rgb", CHW.to_sparse(), "give a plain one"),
        ("rgb", CHW.to("meta"), "give a plain one"),
        # Values that are none.
        ("float", with_value(np.nan), "1 of the image's 216 values are NaN or infinite"),
        ("float", with_value(-np.inf), "1 of the image's 216 values are NaN or infinite"),
        ("float", torch.full((3, 8, 9), torch.nan), "216 of the image's 216 values"),
        ("float", with_value(-1), "image values reach from -1 to 0.5"),
        ("float", with_value(255), "image values reach from 0.5 to 255"),
        # Images of Pillow.
        ("rgb", Image.new("RGBA", (9, 8)), "transparent"),
        ("rgb", Image.new("LA", (9, 8)), "transparent"),
        ("rgb", Image.new("LAB", (9, 8)), "'LAB'"),
        ("rgb", Image.new("HSV", (9, 8)), "'HSV'"),
        ("rgb", Image.new("I", (9, 8)), "'I'"),
        ("rgb", Image.new("F", (9, 8)), "floating-point"),
        ("grey", Image.new("RGB", (9, 8), (1, 2, 3)), "colour image"),
        # No image at all.
        ("rgb", None, "NoneType is no image: give a file"),
        ("rgb", 3, "int is no image"),
        ("rgb", {}, "dict is no image"),
        ("rgb", b"\x89PNG", "bytes is no image"),
        ("rgb", iter([RGB]), "give several as a list"),
        ("rgb", "nothing.png", "cannot read nothing.png"),
        ("rgb", Path("nothing.png"), "cannot read nothing.png"),
        ("rgb", "", "name is empty"),
        ("rgb", ".", ". is a folder: give its images in a list"),
        ("rgb", "https://example.org/a.png", "is a URL"),
    ],
)
def test_what_is_no_image_is_one_line(models, name, image, said):
    assert said in refusal(lambda: models[name].predict(image))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        *(({"tile": tile}, f"tile is {tile!r}: give the largest side")
          for tile in (0, -5, 511, 1024.0, "1024", True)),
        *(({"scales": scales}, "scales is")
          for scales in ((), (0,), (1, 1), 1.0, "0.5", ("1",), (np.nan,), (np.inf,), None)),
        ({"flips": "no"}, "flips is 'no': give True or False"),
        ({"probabilities": 1}, "probabilities is 1"),
    ],
)  # fmt: skip
def test_what_is_no_way_to_predict_is_one_line(models, how, said):
    assert said in refusal(lambda: models["rgb"].predict(RGB, **how))


def test_ways_to_predict(models):
    model = models["rgb"]
    expected = model.predict(RGB).ids
    assert (model.predict(RGB, tile=np.int64(512)).ids == expected).all()
    assert (model.predict(RGB, scales=np.array([1.0])).ids == expected).all()
    assert model.predict([]) == []


@pytest.mark.parametrize("images", ["photos", Path("photos"), None, 3, Image.new("RGB", (9, 8))])
def test_one_image_is_not_several(models, images):
    assert "give a list" in refusal(lambda: list(models["rgb"].predict_each(images)))


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "device is 'gpu', which is none: give 'cpu' or 'cuda'"),
        ("", "which is none"),
        (None, "which is none"),
        ("meta", "holds no numbers"),
        ("cuda:99", "device is 'cuda:99', but"),
        ("xpu:7", "the device 'xpu:7'"),
    ],
)
def test_a_device_that_is_not_here_is_one_line(models, device, said):
    folder = models["rgb"].source
    assert said in refusal(lambda: truemask.load(folder, device=device))
    model = truemask.load(folder)
    assert said in refusal(lambda: model.to(device))
    assert model.predict(RGB).ids.shape == (8, 9)  # it is where it was


def test_a_gpu_that_is_not_here_is_one_line(models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "sees no GPU here: leave it out" in refusal(lambda: models["rgb"].to("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "there are 2 GPUs: the last one is 'cuda:1'" in refusal(
        lambda: models["rgb"].to("cuda:2")
    )


def test_what_is_no_model_is_one_line(models):
    for word in (None, 3, ""):
        assert "names no model" in refusal(lambda word=word: truemask.load(word))
    folder = models["rgb"].source
    assert "give a dict of classes" in refusal(lambda: truemask.load(folder, allow=["a.B"]))
    assert "precision is 'fp16'" in refusal(lambda: truemask.load(folder, precision="fp16"))


def test_what_a_result_cannot_do_is_one_line(models, tmp_path):
    found = models["rgb"].predict(RGB)
    for alpha in (-0.1, 2, np.nan, "half"):
        assert "alpha is" in refusal(lambda alpha=alpha: found.overlay(alpha=alpha))
    assert "path is None" in refusal(lambda: found.save(None))
    assert "kind is 'colour'" in refusal(lambda: found.save(tmp_path / "a.png", kind="colour"))
    for name in ("a.xbm", "a.hdf"):
        said = refusal(lambda name=name: found.save(tmp_path / name, kind="overlay"))
        assert "call" in said
    assert list(tmp_path.iterdir()) == []
