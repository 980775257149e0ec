"""Rasters: TIFFs that are read piece by piece, and masks that keep where on the earth they lie.

GDAL, by way of rasterio (the extra `geo`), reads and writes them; only its GeoTIFF driver is used.
A raster's pixels become what `read_image` makes of a file of that kind. Pixels without data (by
nodata, a mask or a transparent alpha channel) are shown to the model in the mean colour of its
training images; in the mask they get the ignored id, and they count nowhere.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from torch import Tensor

from truemask.datasets.reading import TWELVE_BITS, fit_samples
from truemask.errors import UsageError
from truemask.geometry import Box
from truemask.images import ImageSpec
from truemask.inference.places import Place
from truemask.inference.tiff_tags import ORIENTATION, tiff_tags
from truemask.labels import LabelMap

BLOCK = 256
"""Side of the blocks in which masks are stored."""

_MEGABYTE = 1 << 20
_CACHE = 48 * _MEGABYTE
_LARGEST_CACHE = 512 * _MEGABYTE
_LARGEST_BLOCK = 256 * _MEGABYTE

_KEPT_TAGS = ("AREA_OR_POINT", "TIFFTAG_DATETIME")


@contextmanager
def open_raster(
    path: Path,
    spec: ImageSpec,
    *,
    bands: tuple[int, ...] | None,
    tile: Callable[[int, int], int],
) -> Iterator["Raster"]:
    """Open a TIFF to read pieces of it.

    Args:
        path: the file.
        spec: what the model takes.
        bands: the channels to take, from 1 on; `None` takes all but an alpha channel.
        tile: says the largest side of a tile, of a height and a width; a row of tiles is cached,
            so that no block is decoded twice.

    Raises:
        UsageError: it is unreadable, cannot be brought to `spec` without a guess, or rasterio is
            not installed.
    """
    rasterio = _rasterio()
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), warnings.catch_warnings():
        # That a raster lies nowhere on the earth is no fault, and its mask will lie there too.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with blaming(path):
            # An absolute path, because others may be taken for addresses.
            source = rasterio.open(path.absolute(), driver="GTiff")
        with source:
            with blaming(path):
                raster = Raster(path, source, spec, bands)
            with rasterio.Env(GDAL_CACHEMAX=raster.cache_for(tile(raster.height, raster.width))):
                raster.settle_range()
                yield raster


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.windows
    except ImportError as error:
        raise UsageError(
            f"georeferenced and very large TIFFs need rasterio ({error}): pip install "
            "'truemask[geo]'"
        ) from error
    return rasterio


class UnusableRaster(UsageError):
    """What is wrong lies in the raster: others can be predicted."""


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a raster is read into one line that names it."""
    from rasterio.errors import RasterioError

    try:
        yield
    except UsageError as error:
        raise UnusableRaster(str(error)) from error
    except RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UnusableRaster(
            f"{path} is truncated, corrupt or of a kind that GDAL cannot read ({reason}): replace "
            "it by a whole copy"
        ) from error


class Raster:
    """A raster that is open; see `open_raster`.

    Attributes:
        height: in pixels.
        width: in pixels.
        source: as rasterio gives it.
    """

    def __init__(
        self, path: Path, source: Any, spec: ImageSpec, bands: tuple[int, ...] | None
    ) -> None:
        self.path, self.source, self.spec = path, source, spec
        self.height, self.width = int(source.height), int(source.width)
        names = [color.name for color in source.colorinterp]
        colors = [band for band, name in enumerate(names, start=1) if name != "alpha"]
        if bands is not None and max(bands) > source.count:
            raise UsageError(f"{path} has {source.count} channels: --bands {max(bands)} is none")
        self.bands = list(bands or colors)
        self._lut = self._palette(names)
        self._scale_known = False
        flags = [source.mask_flag_enums[band - 1] for band in self.bands]
        self.has_holes = any(flag != [_enums().all_valid] for flag in flags)
        self._require_readable(names)

    def _palette(self, names: list[str]) -> UInt8[np.ndarray, "256 3"] | None:
        if [names[band - 1] for band in self.bands] != ["palette"]:
            return None
        table = np.zeros((256, 3), np.uint8)
        for index, color in self.source.colormap(self.bands[0]).items():
            table[index] = color[:3]
        return table

    def _require_readable(self, names: list[str]) -> None:
        path, count = self.path, len(self.bands)
        if count not in (1, self.spec.channels) and not (self.spec.channels == 1 and count == 3):
            raise UsageError(
                f"{path} has {count} channels, but the model takes {self.spec.channels}: choose "
                "those that it takes by --bands, such as 1,2,3"
            )
        structure = self.source.tags(ns="IMAGE_STRUCTURE")
        few_bits = any(
            "NBITS" in self.source.tags(band, ns="IMAGE_STRUCTURE") for band in self.bands
        )
        dtypes = {self.source.dtypes[band - 1] for band in self.bands}
        if few_bits or structure.get("MINISWHITE") == "YES" or not dtypes <= set(_DTYPES):
            kind = ", ".join(sorted(dtypes))
            raise UsageError(
                f"{path} holds pixels of a kind that is not read (GDAL calls them {kind}, fewer "
                "bits or 0 for white): save it as 8-bit or 16-bit RGB or grey"
            )
        if "cyan" in names or self._orientation() != 1:
            raise UsageError(
                f"{path} is stored as CMYK or turned, which is not read of files that are read in "
                "pieces: save it as upright RGB"
            )
        sizes = [
            rows * columns * np.dtype(self.source.dtypes[0]).itemsize
            for rows, columns in self.source.block_shapes
        ]
        if max(sizes) * self.source.count > _LARGEST_BLOCK:
            raise UsageError(
                f"{path} is stored in blocks that are too large to be read in pieces: rewrite it "
                "by `gdal_translate -co TILED=YES`"
            )

    def _orientation(self) -> int:
        return int(tiff_tags(self.path).get(ORIENTATION, 1))

    def cache_for(self, tile: int) -> int:
        """Bytes of a row of tiles as it is stored."""
        high, wide = self.source.block_shapes[0]
        reached = (tile // high + 2) * high
        needed = reached * (self.width + wide) * self.source.count
        needed *= np.dtype(self.source.dtypes[0]).itemsize
        return int(min(max(_CACHE, needed * 9 // 8), _LARGEST_CACHE))

    def blamed(self) -> AbstractContextManager[None]:
        """Where an error within is one of the raster."""
        return blaming(self.path)

    def settle_range(self) -> None:
        """Whether 16 bits are used, of all pixels: a dark corner alone would tell nothing.

        Raises:
            UnusableRaster: they are not, or the file is damaged.
        """
        if self.source.dtypes[self.bands[0] - 1] != "uint16":
            return
        largest = 0
        with self.blamed():
            for _, window in self.source.block_windows(self.bands[0]):
                largest = max(largest, int(self.source.read(self.bands, window=window).max()))
                if largest > TWELVE_BITS:
                    break
            # It says what is wrong with fewer.
            fit_samples(np.full((1, 1), largest, np.uint16), self.path, self.spec)
        self._scale_known = True

    def read(self, box: Box) -> Shaped[Tensor, "C h w"]:
        """Pixels as the model takes them.

        Raises:
            UnusableRaster: they cannot be brought to that, or the file is damaged there.
        """
        with self.blamed():
            return self._read(box)

    def _read(self, box: Box) -> Shaped[Tensor, "C h w"]:
        window = _window(box)
        samples = self.source.read(self.bands, window=window).transpose(1, 2, 0)
        valid = self.valid(box)
        if valid is not None and samples.dtype == np.float32:
            samples = np.where(valid.numpy()[..., None], samples, np.float32(self.spec.low))
        if self._lut is not None:
            samples = self._lut[samples[..., 0]]
        if samples.shape[2] == 1:
            samples = samples[..., 0]
        pixels = fit_samples(samples, self.path, self.spec, scale_known=self._scale_known)
        image = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
        if valid is not None and not valid.all():
            image = torch.where(valid, image, self._mean())
        return image

    def _mean(self) -> Shaped[Tensor, "C 1 1"]:
        """The training images' mean colour, which is 0 to the network."""
        spec = self.spec
        mean = torch.tensor(spec.mean) * (spec.high - spec.low) + spec.low
        if spec.dtype == "uint8":
            mean = mean.round()
        return mean.clamp(spec.low, spec.high).to(spec.torch_dtype)[:, None, None]

    def valid(self, box: Box) -> Bool[Tensor, "h w"] | None:
        """Which pixels are data; `None` where all of the raster are."""
        if not self.has_holes:
            return None
        with self.blamed():
            return torch.from_numpy(self.source.dataset_mask(window=_window(box)) > 0)

    def place(self) -> Place | None:
        """Where it lies; `None` where that is not known, or known of single points only."""
        crs, transform = self.source.crs, self.source.transform
        if crs is None or transform.is_identity:
            return None
        code = crs.to_epsg()
        name = "" if code == 4326 else f"urn:ogc:def:crs:EPSG::{code}" if code else crs.to_wkt()
        a, b, c, d, e, f = transform[:6]
        return Place(transform=(a, b, c, d, e, f), crs=name, pixel_area=self.pixel_area())

    def pixel_area(self) -> float | None:
        """Square metres of a pixel, in a projected coordinate system; else `None`."""
        crs = self.source.crs
        if crs is None or not crs.is_projected or self.source.transform.is_identity:
            return None
        metres = float(crs.linear_units_factor[1])
        return abs(float(self.source.transform.determinant)) * metres**2


_DTYPES = ("uint8", "uint16", "float32")


def _enums() -> Any:
    from rasterio.enums import MaskFlags

    return MaskFlags


def _window(box: Box) -> Any:
    from rasterio.windows import Window

    return Window(box.left, box.top, box.width, box.height)


class RowWriter:
    """Writes a raster of the size and place of another, from the top down.

    Blocks are written once and whole, because a compressed block that is written twice takes its
    place in the file twice.

    Args:
        path: the file; what is there is replaced.
        like: the raster whose size and georeference it gets.
        count: its channels, of 8 bits each.
        options: further options of rasterio's `open`.
    """

    def __init__(self, path: Path, like: Raster, *, count: int = 1, **options: Any) -> None:
        source = like.source
        gcps, gcp_crs = source.gcps
        place: dict[str, Any] = {}
        if gcps:
            place = {"gcps": gcps, "crs": gcp_crs}
        elif source.crs is not None or not source.transform.is_identity:
            place = {"transform": source.transform, "crs": source.crs}
        if source.rpcs is not None:
            place["rpcs"] = source.rpcs
        self.path = path
        self.file = _rasterio().open(
            path, "w", driver="GTiff", dtype="uint8", count=count, height=like.height,
            width=like.width, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate",
            bigtiff="if_safer", **place, **options,
        )  # fmt: skip
        tags = {name: value for name, value in source.tags().items() if name in _KEPT_TAGS}
        if tags:
            self.file.update_tags(**tags)
        self.width, self.height, self.count = like.width, like.height, count
        self.written = 0
        self.pending = np.empty((count, 0, self.width), np.uint8)

    def put(self, box: Box, values: UInt8[np.ndarray, "B h w"]) -> None:
        """Take the values of a box whose rows are not yet written."""
        bottom = box.top + box.height - self.written
        missing = bottom - self.pending.shape[1]
        if missing > 0:
            more = np.empty((self.count, missing, self.width), np.uint8)
            self.pending = np.concatenate((self.pending, more), axis=1)
        rows = slice(box.top - self.written, bottom)
        self.pending[:, rows, box.left : box.left + box.width] = values

    def flush(self, bottom: int) -> None:
        """Write the rows above `bottom`, all of whose values are there, in whole blocks."""
        end = bottom if bottom == self.height else bottom // BLOCK * BLOCK
        if end <= self.written:
            return
        ready, self.pending = np.split(self.pending, [end - self.written], axis=1)
        self.pending = self.pending.copy()
        box = Box(self.written, 0, end - self.written, self.width)
        with self._explained():
            self.file.write(ready, window=_window(box))
        self.written = end

    def describe(self, *, software: str, text: str) -> None:
        """Say what made it and what it is."""
        self.file.update_tags(TIFFTAG_SOFTWARE=software, TIFFTAG_IMAGEDESCRIPTION=text)

    def close(self) -> None:
        """Finish the file."""
        with self._explained():
            self.file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from rasterio.errors import RasterioError

        try:
            yield
        except RasterioError as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise UsageError(
                f"cannot write {self.path} ({reason}): free some space, or choose another folder"
            ) from error


def color_table(labels: LabelMap) -> dict[int, tuple[int, int, int, int]]:
    """The classes' colours, as rasterio takes them."""
    return {index: (*map(int, color), 255) for index, color in enumerate(labels.palette)}  # type: ignore[misc]
