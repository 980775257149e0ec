"""Files that say of some pixels that they are no data, by GDAL's own writer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

import truemask
from truemask.datasets.decoding import Content
from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec
from truemask.inference.read_whole import read_whole
from truemask.inference.serve_limits import Refused, decode
from truemask.inference.tiff_tags import is_raster


def write(file: Path, pixels: np.ndarray, **options: Any) -> Path:
    count, height, width = pixels.shape
    kinds = {
        "interleave": "pixel",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
    }
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(file, "w", driver="GTiff", **kinds, **options) as out,
    ):
        out.write(pixels)
    return file


@pytest.fixture
def pixels() -> np.ndarray:
    found = np.random.default_rng(0).integers(1, 255, (3, 12, 17), dtype=np.uint8)
    found[0, 3, 4] = 0  # of one channel alone: that is a colour
    return found


def test_pixels_without_data_are_refused_by_whoever_gives_all_a_class(
    pixels: np.ndarray, tmp_path: Path, bundle_folder: Path
) -> None:
    pixels[:, :2] = 0
    file = write(tmp_path / "a.tif", pixels, nodata=0)
    says = r"has pixels without data \(its nodata value is 0\)"
    with pytest.raises(UsageError, match=rf"a\.tif {says}"):
        read_whole(file, RGB)
    with pytest.raises(UsageError, match=says):
        truemask.load(bundle_folder).predict(file)
    with pytest.raises(Refused, match=says) as refused:
        decode(file.read_bytes(), RGB)
    assert refused.value.status_code == 422
    assert is_raster(file)  # so `predict` reads it as one, and leaves them out


def test_a_nodata_value_that_no_pixel_has_refuses_nothing(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.tif", pixels, nodata=0)
    assert np.array_equal(read_whole(file, RGB), pixels)


def test_scaled_values_cannot_be_told_apart(pixels: np.ndarray, tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", pixels.astype(np.uint16) * 257, nodata=0, photometric="RGB")
    with pytest.raises(UsageError, match="without data"):
        read_whole(file, RGB)
    floats = ImageSpec(channels=3, dtype="float32", low=0.0, high=1.0)
    with pytest.raises(UsageError, match="without data"):
        read_whole(write(tmp_path / "b.tif", pixels, nodata=0), floats)


def test_other_files_are_read_as_ever(pixels: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(read_whole(write(tmp_path / "a.tif", pixels), RGB), pixels)
    file = tmp_path / "a.png"
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file)
    assert np.array_equal(read_whole(Content(file.read_bytes()), RGB), pixels)


def test_channels_that_are_no_colours_are_no_damage(pixels: np.ndarray, tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", np.concatenate((pixels, pixels[:2])).astype(np.uint16) * 257)
    with pytest.raises(UsageError, match="pixels of a kind that is not read"):
        read_whole(file, RGB)
