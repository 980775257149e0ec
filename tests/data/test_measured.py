"""Sums that are read without an array of the image are those of the image."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from truemask.channels import ChannelSums
from truemask.data.label_edits import LabelEdits, Relabelled, edit_labels
from truemask.data.views import View, measured, resized
from truemask.datasets.folder import folder
from truemask.datasets.measuring import spot_step, spots_of
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair
from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec
from truemask.labels import LabelMap

LABELS = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2, 255: 255})
GREY = ImageSpec(channels=1)
FLOATS = ImageSpec(dtype="float32", low=-1.0, high=1.0)
REAL = Path(__file__).parents[2] / "../shared/data"

KINDS = {
    "RGB": ("x.png", {}),
    "JPEG": ("x.jpg", {"quality": 85}),
    "grey JPEG": ("x.jpg", {}),
    "L": ("x.png", {}),
    "P": ("x.png", {}),
    "1": ("x.png", {}),
    "RGBA": ("x.png", {}),
    "LA": ("x.png", {}),
    "CMYK": ("x.jpg", {}),
    "16-bit L": ("x.png", {}),
    "TIFF": ("x.tif", {}),
    "BMP": ("x.bmp", {}),
    "WebP": ("x.webp", {"lossless": True}),
    "GIF": ("x.gif", {}),
    "turned": ("x.jpg", {}),
}


def picture(kind):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (13, 22, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if kind == "16-bit L":
        return Image.fromarray(random.integers(0, 65536, (13, 22)).astype(np.uint16))
    if kind in ("RGBA", "LA"):
        image.putalpha(255)
        return image.convert(kind)
    if kind in ("L", "grey JPEG"):
        return image.convert("L")
    return image.convert(kind) if kind in ("P", "1", "CMYK") else image


def dataset(tmp_path, kind, spec):
    name, options = KINDS[kind]
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif}
    picture(kind).save(tmp_path / name, **options)
    ids = np.random.default_rng(1).choice(np.array([0, 1, 2, 255], np.uint8), (13, 22))
    Image.fromarray(ids).save(tmp_path / "mask.png")
    pair = Pair(None, "x", tmp_path / name, tmp_path / "mask.png")
    return PairedDataset(pairs=(pair,), labels=LABELS, images=spec)


def require_same(found, sample, spec):
    assert found.channels == ChannelSums.of(sample.image, spec)
    assert found.mask.numpy().tolist() == sample.mask.numpy().tolist()
    if spec.dtype != "uint8":
        assert found.spots is None
        return
    height, width = sample.mask.shape
    step = spot_step(height, width)
    rows, columns = (
        np.array([step // 2 + step * k for k in range(length // step)])
        for length in (height, width)
    )
    pixels = sample.image.numpy().transpose(1, 2, 0)
    assert np.array_equal(found.spots, pixels[np.ix_(rows, columns)])
    assert np.array_equal(spots_of(found.mask.numpy()), sample.mask.numpy()[np.ix_(rows, columns)])


@pytest.mark.parametrize("kind", ["RGB", "L", "turned", "P"])
@pytest.mark.parametrize("size", [(301, 407), (720, 1280), (2, 40_000)])
def test_spots_are_the_middles_of_squares_at_any_size(tmp_path, size, kind, monkeypatch):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    monkeypatch.setitem(globals(), "picture", lambda _: Image.fromarray(pixels))
    data = dataset(tmp_path, "RGB", RGB)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = Image.fromarray(pixels).convert("RGB" if kind == "turned" else kind)
    made.save(tmp_path / "x.png", **({"exif": exif} if kind == "turned" else {}))
    Image.fromarray(random.integers(0, 3, size, dtype=np.uint8)).save(tmp_path / "mask.png")
    require_same(data.measured(0), data[0], RGB)


@pytest.mark.parametrize("spec", [RGB, GREY, FLOATS], ids=["rgb", "grey", "floats"])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_mask_are_those_of_the_sample(tmp_path, kind, spec):
    data = dataset(tmp_path, kind, spec)
    refused = {}
    for way in (data.__getitem__, data.measured):
        with suppress(UsageError):
            way(0)
            continue
        with pytest.raises(UsageError) as raised:
            way(0)
        refused[way.__name__] = str(raised.value)
    if refused:
        assert refused["measured"] == refused["__getitem__"]
        return
    sample = data[0]
    require_same(data.measured(0), sample, spec)


def test_the_kind_of_a_file_is_told(tmp_path):
    told = {}
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        told[kind] = dataset(tmp_path / kind, kind, RGB).measured(0).mode
    assert told["RGB"] == told["JPEG"] == "RGB"
    assert told["L"] == told["grey JPEG"] == "L"
    assert told["16-bit L"] == "16-bit L"
    assert told["RGBA"] == "RGBA"


def test_views_and_relabelled_data_tell_the_same(tmp_path):
    data = dataset(tmp_path, "JPEG", RGB)
    labels = edit_labels(LABELS, LabelEdits(keep=["b", "c"]))
    for made in (
        View.of([data]),
        Relabelled(dataset=data, labels=labels),
        resized(data, (7, 9)),
        Relabelled(dataset=View.of([data]), labels=labels),
    ):
        require_same(measured(made, 0), made[0], RGB)


def test_a_class_that_reads_otherwise_than_the_one_above_it_is_asked_itself(tmp_path):
    class Inverted(PairedDataset):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.image.copy_(255 - sample.image)
            return sample

    data = dataset(tmp_path, "RGB", RGB)
    other = Inverted(pairs=data.pairs, labels=data.labels, images=RGB)
    assert measured(other, 0)[0] == ChannelSums.of(other[0].image, RGB)
    assert measured(other, 0)[0] != data.measured(0)[0]


@pytest.mark.skipif(not (REAL / "camvid").is_dir(), reason="needs the real CamVid")
def test_real_photographs():
    data = folder(REAL / "camvid")["train"]
    for index in range(0, len(data), 60):
        sample = data[index]
        require_same(data.measured(index), sample, data.images)
        assert data.measured(index).mode == "RGB"
