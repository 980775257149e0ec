"""`truemask.load(RUN).predict(image)`: the masks of the command line, of any kind of image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import truemask
from truemask.bundle import load_bundle, save_bundle
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.predict import predict
from truemask.inference.settings import Settings
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet

NETWORK = {"in_channels": 3, "out_channels": 3, "widths": [4, 6]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundle") / "model"
    labels = LabelMap(names=("road", "<b>sky</b>", "car"), values={0: 0, 1: 1, 2: 2})
    spec = ImageSpec(mean=(0.5,), std=(0.25,))
    save_bundle(
        folder,
        model=Segmenter(network=UNet(**NETWORK), images=spec),
        network={"_target_": "truemask.models.unet.UNet", **NETWORK},
        labels=labels,
        info={},
    )
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 52, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "a.png"
    Image.fromarray(pixels).save(path)
    return path


def test_every_way_to_give_an_image_gives_the_mask_of_the_command_line(folder, photo, tmp_path):
    predict(load_bundle(folder), [photo], tmp_path)
    expected = np.asarray(Image.open(tmp_path / "a.png"))
    model = truemask.load(folder)
    array = np.asarray(Image.open(photo))
    tensor = torch.tensor(array).permute(2, 0, 1)
    for image in (photo, str(photo), Image.open(photo), array, array[:, ::1], tensor):
        assert (model.predict(image).ids == expected).all()
    found = model.predict(photo, probabilities=True)
    assert found.probabilities.shape == (3, 37, 52)
    assert found.shares == {n: (expected == i).mean() for i, n in enumerate(model.labels.names)}
    assert (found.mask("car") == (expected == 2)).all()
    found.save(tmp_path / "saved.png")
    assert (np.asarray(Image.open(tmp_path / "saved.png")) == expected).all()


def test_a_turned_photo_is_turned(folder, photo, tmp_path):
    picture, turned = Image.open(photo), tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(turned, exif=exif, quality=100)
    model = truemask.load(folder)
    assert model.predict(turned).ids.shape == (52, 37)
    assert (model.predict(Image.open(turned)).ids == model.predict(turned).ids).all()


def test_an_image_of_pillow_is_what_its_file_is(folder, photo, tmp_path):
    grey = np.random.default_rng(2).integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.open(photo).convert("CMYK").save(tmp_path / "print.tif")
    Image.open(photo).convert("P").save(tmp_path / "palette.gif")
    model = truemask.load(folder)
    for name in ("deep.png", "print.tif", "palette.gif"):
        with Image.open(tmp_path / name) as picture:
            assert (model.predict(picture).ids == model.predict(tmp_path / name).ids).all(), name
    Image.fromarray(grey // 64).save(tmp_path / "ten_bits.png")
    cut_out = Image.open(photo).convert("RGBA")
    cut_out.putalpha(100)
    cut_out.save(tmp_path / "cut_out.png")
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:2000])
    for name, said in (("ten_bits", "scale is unknown"), ("cut_out", "transparent"),
                       ("half", "truncated")):  # fmt: skip
        with pytest.raises(UsageError, match=said), Image.open(tmp_path / f"{name}.png") as picture:
            model.predict(picture)


def test_a_result_shows_itself_and_names_are_escaped(folder, photo):
    found = truemask.load(folder).predict(photo)
    page = found._repr_html_()
    assert page.count("<img") == 3
    assert "<b>sky</b>" not in page
    assert "http" not in page
    assert len(repr(found)) < 10_000


def test_what_is_no_image_of_this_model_is_one_line(folder):
    model = truemask.load(folder)
    with pytest.raises(UsageError, match="takes images of dtype uint8"):
        model.predict(np.zeros((8, 8, 3), dtype=np.float32))
    with pytest.raises(UsageError, match=r"shape \(H, W, 3\)"):
        model.predict(np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(UsageError, match="is a batch"):
        model.predict(np.zeros((1, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(UsageError, match="no pixels"):
        model.predict(np.zeros((0, 8, 3), dtype=np.uint8))
    with pytest.raises(UsageError, match="give several as a list"):
        model.predict(("a.png", np.zeros((8, 8, 3), dtype=np.uint8)))
    with pytest.raises(UsageError, match="there is no class 'cat'"):
        model.predict(np.zeros((8, 8, 3), dtype=np.uint8)).mask("cat")
    with pytest.raises(AttributeError):
        truemask.nothing  # noqa: B018


def test_a_list_gives_a_list_and_none_changes_another(folder, photo):
    model = truemask.load(folder, device="cpu")
    other = np.random.default_rng(1).integers(0, 256, (21, 64, 3), dtype=np.uint8)
    both = model.predict([photo, other], flips=True)
    alone = [model.predict(image, flips=True) for image in (photo, other)]
    assert all((a.ids == b.ids).all() for a, b in zip(both, alone, strict=True))
    lazily = model.predict_each(iter([photo, other]), scales=(0.5, 1.0))
    assert (next(lazily).ids == model.predict(photo, scales=(0.5, 1.0)).ids).all()


def test_averages_are_those_of_the_command_line(folder, photo, tmp_path):
    predict(load_bundle(folder), [photo], tmp_path, settings=Settings(flips=True, scales=(1, 1.5)))
    expected = np.asarray(Image.open(tmp_path / "a.png"))
    found = truemask.load(folder).predict(photo, flips=True, scales=(1, 1.5))
    assert (found.ids == expected).all()


def test_what_is_saved_is_what_the_command_line_writes(folder, photo, tmp_path):
    settings = Settings(overlay=True, probabilities=True)
    predict(load_bundle(folder), [photo], tmp_path, settings=settings)
    found = truemask.load(folder).predict(photo, probabilities=True)
    kinds = {
        "ids": ".png",
        "color": ".color.png",
        "overlay": ".overlay.jpg",
        "probabilities": ".npz",
    }
    for kind, ending in kinds.items():
        own = tmp_path / f"own-{kind}{ending}"
        found.save(own, kind=kind)
        if kind == "probabilities":
            with np.load(own) as mine, np.load(tmp_path / "a.npz") as theirs:
                assert mine.files == theirs.files
                assert all((mine[name] == theirs[name]).all() for name in mine.files)
        else:
            with Image.open(own) as mine, Image.open(tmp_path / f"a{ending}") as theirs:
                assert (mine.mode, mine.tobytes()) == (theirs.mode, theirs.tobytes())
                assert mine.getpalette() == theirs.getpalette()
    with pytest.raises(UsageError, match=r"probabilities=True"):
        truemask.load(folder).predict(photo).save(tmp_path / "b.npz", kind="probabilities")
    with pytest.raises(UsageError, match="ends in no kind of image"):
        found.save(tmp_path / "b.xyz", kind="overlay")
    with pytest.raises(UsageError, match="kind is 'masks'"):
        found.save(tmp_path / "b.png", kind="masks")
    with pytest.raises(UsageError, match="cannot write"):
        found.save(tmp_path / "nowhere" / "b.png")


def test_a_result_is_plain_values_and_a_model_says_what_it_is(folder, photo):
    model = truemask.load(folder)
    said = json.loads(json.dumps(model.predict(photo).to_json()))
    assert (said["height"], said["width"], said["warnings"]) == (37, 52, [])
    assert sum(said["shares"].values()) == pytest.approx(1)
    assert 0 <= said["entropy"] <= 1
    assert "UNet for RGB images of any size, on cpu; 0 = road" in repr(model)
    assert len(repr(model)) < 300
