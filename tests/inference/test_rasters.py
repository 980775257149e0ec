"""GeoTIFFs and very large TIFFs: held against prediction of the whole image in memory."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from truemask.bundle import Bundle, Inputs
from truemask.checks.inputs import describe_images
from truemask.datasets.mask_files import read_mask_raw
from truemask.datasets.reading import read_image
from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec
from truemask.inference import rasters, tiff_tags
from truemask.inference.doubt import find_doubt
from truemask.inference.predict import predict
from truemask.inference.predict_image import predict_image
from truemask.inference.settings import Settings
from truemask.labels import LabelMap
from truemask.models.described import build_network
from truemask.models.segmenter import Segmenter

rasterio = pytest.importorskip("rasterio")
from rasterio.control import GroundControlPoint  # noqa: E402

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})
PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 4e5, 0, -0.25, 5.7e6)}


def make_bundle(images: ImageSpec = RGB, size: tuple[int, int] | None = None) -> Bundle:
    network = {
        "_target_": "truemask.models.unet.UNet",
        "in_channels": images.channels,
        "out_channels": 3,
        "widths": [8, 16],
    }
    torch.manual_seed(0)
    model = Segmenter(network=build_network(network), images=images, size=size)
    nn.init.normal_(model.network.head.weight)  # type: ignore[union-attr]
    nn.init.zeros_(model.network.head.bias)  # type: ignore[union-attr]
    return Bundle(model=model.eval(), labels=LABELS, network=network, info={})


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle()


def scene(channels: int, height: int, width: int, *, dtype: Any = np.uint8) -> Any:
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    coarse = np.random.default_rng(0).random((channels, height // 8 + 1, width // 8 + 1))
    fine = (coarse * top).repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return fine.astype(dtype)


def save(path: Path, pixels: Any, *, colormap: Any = None, **options: Any) -> Path:
    count, height, width = pixels.shape
    size = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **{**PLACE, **options}) as file:
        if colormap is not None:
            file.write_colormap(1, colormap)  # before the pixels, or it lands in a file beside it
        file.write(pixels)
    return path


def ids_of(path: Path) -> Any:
    with rasterio.open(path) as mask:
        return mask.read(1)


@pytest.mark.parametrize(
    ("dtype", "channels", "options"),
    [
        (np.uint8, 3, {}),
        (np.uint8, 1, {"compress": "lzw"}),
        (np.uint16, 3, {"compress": "deflate", "photometric": "rgb"}),
        (np.uint16, 1, {"tiled": True, "blockxsize": 64, "blockysize": 64}),
        (np.uint8, 3, {"compress": "jpeg", "photometric": "ycbcr", "tiled": True}),
        (np.uint8, 3, {"interleave": "band"}),
    ],
)
@pytest.mark.parametrize("tile", [None, 512])
def test_a_geotiff_has_the_mask_of_the_image(
    bundle: Bundle, tmp_path: Path, dtype: Any, channels: int, options: Any, tile: int | None
) -> None:
    pixels = scene(channels, 600, 730, dtype=dtype)
    source = save(tmp_path / "a.tif", pixels, **options)
    result = predict(bundle, [source], tmp_path / "out", settings=Settings(tile=tile))
    assert result.failed == []
    # Pillow and GDAL decode JPEG with libraries of their own.
    image = (
        read_image(source, RGB) if "jpeg" not in options.values() else rasters_read(source, bundle)
    )
    expected = predict_image(bundle, image, tile=tile)
    ids = ids_of(tmp_path / "out" / "a.tif")
    assert np.array_equal(ids, expected.ids.numpy())
    assert len(np.unique(ids)) > 1
    (row,) = result.written
    assert row.mask == "a.tif"
    assert row.confidence == pytest.approx(expected.confidence, rel=1e-6)
    assert row.entropy == pytest.approx(expected.entropy, rel=1e-6)
    counts = dict(zip(LABELS.names, np.bincount(ids.ravel(), minlength=3).tolist(), strict=True))
    assert row.pixels == counts
    # A pixel is 0.5 m by 0.25 m.
    assert row.areas == pytest.approx({name: count / 8 for name, count in counts.items()})


def rasters_read(path: Path, bundle: Bundle) -> torch.Tensor:
    with rasterio.open(path) as file:
        return torch.from_numpy(file.read())


def test_palettes_and_floats(tmp_path: Path) -> None:
    colors = {0: (10, 200, 30), 1: (250, 0, 90), 2: (0, 0, 0)}
    pixels = scene(1, 100, 90) % 3
    source = save(tmp_path / "a.tif", pixels, colormap=colors, photometric="palette")
    predict(make_bundle(), [source], tmp_path / "out")
    expected = predict_image(make_bundle(), read_image(source, RGB)).ids.numpy()
    assert np.array_equal(ids_of(tmp_path / "out" / "a.tif"), expected)
    spec = ImageSpec(channels=1, dtype="float32", low=0.0, high=1.0)
    source = save(tmp_path / "b.tif", scene(1, 100, 90, dtype=np.float32))
    predict(make_bundle(spec), [source], tmp_path / "out2")
    expected = predict_image(make_bundle(spec), read_image(source, spec)).ids.numpy()
    assert np.array_equal(ids_of(tmp_path / "out2" / "b.tif"), expected)


def test_the_georeference_is_kept(bundle: Bundle, tmp_path: Path) -> None:
    source = save(tmp_path / "a.tif", scene(3, 300, 400))
    with rasterio.open(source, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    points = [
        GroundControlPoint(row, column, x, y)
        for row, column, x, y in [(0, 0, 13.0, 51.0), (0, 400, 13.1, 51.0), (300, 0, 13.0, 50.9)]
    ]
    plain = {"transform": None, "gcps": points, "crs": "EPSG:4326"}
    other = save(tmp_path / "b.tif", scene(3, 300, 400), **plain)
    predict(bundle, [source, other], tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "a.tif") as mask:
        assert mask.crs.to_epsg() == 32633
        assert mask.transform == PLACE["transform"]
        assert mask.tags()["AREA_OR_POINT"] == "Point"
        assert mask.profile["tiled"]
        assert mask.profile["compress"] == "deflate"
        assert mask.colormap(1)[1][:3] == LABELS.colors[1]
        assert mask.nodata is None
    with rasterio.open(tmp_path / "out" / "b.tif") as mask:
        found, crs = mask.gcps
        assert crs.to_epsg() == 4326
        for point, kept in zip(points, found, strict=True):
            assert (kept.row, kept.col, kept.x, kept.y) == (point.row, point.col, point.x, point.y)
    # Pillow, and so a training, reads the ids as they are.
    assert np.array_equal(
        read_mask_raw(tmp_path / "out" / "a.tif"), ids_of(tmp_path / "out" / "a.tif")
    )


@pytest.mark.parametrize("kind", ["nodata", "alpha"])
def test_pixels_without_data_are_ignored(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    pixels = scene(3, 200, 300)
    pixels[pixels == 7] = 8
    hole = np.zeros((200, 300), bool)
    hole[50:90, 100:220] = True
    options: dict[str, Any]
    if kind == "nodata":
        pixels[:, hole] = 7
        stored, options = pixels, {"nodata": 7}
    else:
        stored = np.concatenate([pixels, np.where(hole, 0, 255)[None].astype(np.uint8)])
        options = {"photometric": "rgb", "alpha": "yes"}
    source = save(tmp_path / "a.tif", stored, **options)
    result = predict(bundle, [source], tmp_path / "out", settings=Settings(overlay=True))
    ids = ids_of(tmp_path / "out" / "a.tif")
    assert np.array_equal(ids == LABELS.ignore_index, hole)
    # What the model sees there is its mean colour.
    mean = (np.array(RGB.mean) * 255).round().astype(np.uint8)
    seen = np.where(hole, mean[:, None, None], pixels)
    expected = predict_image(bundle, torch.from_numpy(seen)).ids.numpy()
    assert np.array_equal(ids[~hole], expected[~hole])
    assert sum(result.written[0].pixels.values()) == (~hole).sum()
    assert sum(result.written[0].shares.values()) == pytest.approx(1)
    with rasterio.open(tmp_path / "out" / "a.tif") as mask:
        assert mask.nodata == LABELS.ignore_index


def test_probabilities_and_overlay(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from truemask.inference import predict_raster

    monkeypatch.setattr(predict_raster, "OVERVIEW_SIDE", 100)
    source = save(tmp_path / "a.tif", scene(3, 600, 730))
    settings = Settings(overlay=True, probabilities=True, tile=512)
    predict(bundle, [source], tmp_path / "out", settings=settings)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "a.overlay.jpg", "a.probabilities.tif", "a.tif", "predictions.csv",
    ]  # fmt: skip
    with rasterio.open(tmp_path / "out" / "a.probabilities.tif") as file:
        found, crs = file.read(), file.crs
        assert file.descriptions == LABELS.names
        assert file.scales == pytest.approx((1 / 255,) * 3)
    assert crs.to_epsg() == 32633
    expected = predict_image(bundle, read_image(source, RGB), tile=512, probabilities=True)
    assert expected.probabilities is not None
    assert np.abs(found / 255 - expected.probabilities.float().numpy()).max() < 0.003
    with Image.open(tmp_path / "out" / "a.overlay.jpg") as overlay:
        assert overlay.size == (92, 75)  # every eighth pixel


@pytest.mark.parametrize("size", [None, (64, 64)])
def test_it_is_held_against_the_training_images(
    tmp_path: Path, size: tuple[int, int] | None
) -> None:
    bundle = make_bundle(size=size)
    known = describe_images(scene(3, 90, 100 + i).transpose(1, 2, 0) // 2 for i in range(20))
    bundle = replace(bundle, inputs=Inputs(value=known.to_json(), file=tmp_path))
    source = save(tmp_path / "a.tif", scene(3, 600, 730))
    tile = None if size else 512
    result = predict(bundle, [source], tmp_path / "out", settings=Settings(tile=tile))
    doubt = find_doubt(bundle, read_image(source, RGB))
    assert doubt is not None
    assert result.written[0].unlikeness == doubt.unlikeness
    assert result.written[0].warning == doubt.warning
    assert result.warned == result.written


def test_outlines_lie_where_the_raster_lies(bundle: Bundle, tmp_path: Path) -> None:
    from rasterio.features import rasterize

    source = save(tmp_path / "a.tif", scene(3, 200, 300))
    predict(bundle, [source], tmp_path / "out", settings=Settings(polygons=("geojson",)))
    value = json.loads((tmp_path / "out" / "a.geojson").read_text())
    assert value["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    shapes = [(one["geometry"], one["properties"]["id"]) for one in value["features"]]
    with rasterio.open(tmp_path / "out" / "a.tif") as mask:
        burnt = rasterize(shapes, mask.shape, fill=99, transform=mask.transform)
        assert np.array_equal(burnt, mask.read(1))


def test_a_plain_tiff_has_a_png_unless_it_is_large(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(scene(3, 100, 120).transpose(1, 2, 0)).save(tmp_path / "a.tif")
    predict(bundle, [tmp_path / "a.tif"], tmp_path / "out")
    assert (tmp_path / "out" / "a.png").exists()
    monkeypatch.setattr(tiff_tags, "HUGE_SIDE", 100)
    predict(bundle, [tmp_path / "a.tif"], tmp_path / "large")
    with Image.open(tmp_path / "out" / "a.png") as mask:
        assert np.array_equal(np.array(mask), read_mask_raw(tmp_path / "large" / "a.tif"))


def test_what_cannot_be_used_is_skipped(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole = save(folder / "a.tif", scene(3, 300, 300), compress="deflate")
    (folder / "cut.tif").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    save(folder / "four.tif", scene(4, 20, 20), photometric="minisblack")
    save(folder / "dark.tif", scene(3, 20, 20, dtype=np.uint16) // 32)
    save(folder / "signed.tif", scene(3, 20, 20).astype(np.int16))
    result = predict(bundle, [folder], tmp_path / "out")
    assert [image.mask for image in result.written] == ["a.tif"]
    reasons = {Path(file).stem: reason for file, reason in result.failed}
    assert "truncated" in reasons["cut"] or "corrupt" in reasons["cut"]
    assert "has 4 channels, but the model takes 3: choose" in reasons["four"]
    assert "its scale is unknown" in reasons["dark"]
    assert "int16" in reasons["signed"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "a.tif", "predictions.csv",
    ]  # fmt: skip
    settings = Settings(bands=(3, 2, 1))
    result = predict(bundle, [folder / "four.tif"], tmp_path / "out", settings=settings)
    pixels = torch.from_numpy(scene(4, 20, 20)[[2, 1, 0]].copy())
    assert np.array_equal(
        ids_of(tmp_path / "out" / "four.tif"), predict_image(bundle, pixels).ids.numpy()
    )


def test_a_full_disk_ends_it_and_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, bottom: int) -> None:
        with self._explained():
            raise rasterio.errors.RasterioIOError("No space left on device")

    monkeypatch.setattr(rasters.RowWriter, "flush", full)
    source = save(tmp_path / "a.tif", scene(3, 300, 300))
    with pytest.raises(UsageError, match="cannot write .*No space left"):
        predict(bundle, [source], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_raster_that_breaks_leaves_its_earlier_prediction(bundle: Bundle, tmp_path: Path) -> None:
    source = save(tmp_path / "a.tif", scene(3, 300, 300))
    settings = Settings(overlay=True, polygons=("geojson",))
    predict(bundle, [source], tmp_path / "out", settings=settings)
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    source.write_bytes(source.read_bytes()[:60_000])
    result = predict(bundle, [source], tmp_path / "out", settings=settings)
    assert len(result.failed) == 1
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_progress_is_told_within_a_raster(bundle: Bundle, tmp_path: Path) -> None:
    source = save(tmp_path / "a.tif", scene(3, 900, 700))
    seen: list[float] = []
    settings = Settings(tile=512)
    predict(
        bundle, [source], tmp_path / "out", settings=settings,
        progress=lambda done, total: seen.append(done / total),
    )  # fmt: skip
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 1)
    assert len(seen) > 4


def test_done_rasters_are_kept(bundle: Bundle, tmp_path: Path) -> None:
    source = save(tmp_path / "a.tif", scene(3, 300, 300))
    first = predict(bundle, [source], tmp_path / "out")
    table = (tmp_path / "out" / "predictions.csv").read_bytes()
    (tmp_path / "out" / "predictions.csv").unlink()
    second = predict(bundle, [source], tmp_path / "out")
    assert second.written == []
    assert second.kept == first.written
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == table
    shutil.copy(source, tmp_path / "b.tif")
    assert predict(bundle, [tmp_path / "b.tif"], tmp_path / "out").written


def test_without_rasterio_it_is_said(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path / "a.tif", scene(3, 30, 30))
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(UsageError, match=r"need rasterio .*pip install 'truemask\[geo\]'"):
        predict(bundle, [source], tmp_path / "out")
