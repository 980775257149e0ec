"""One image and the files of its prediction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from truemask.inference.buckets import Stored, fetched
from truemask.inference.records import Record, image_key
from truemask.inference.settings import FORMATS, Settings
from truemask.inference.tiff_tags import is_raster


@dataclass(frozen=True, kw_only=True)
class Target:
    """One image and where its prediction goes.

    Attributes:
        source: the image.
        name: what the mask's header calls it: its path below the input that it was found in.
        stem: the path of what is written, without its ending.
        folder: that of all masks, with which `stem` begins.
        bucket: its URL where it lies in a bucket: `folder` is empty then, see `out_bucket.sending`.
        replaces: whether there is a mask of that name in the bucket.
        raster: whether it is a TIFF that is read in pieces and whose mask is a TIFF, since it is
            georeferenced or too large.
        frame: which frame of a video it is.
        url: where it was fetched; empty for a file.
        stored: where it lies, if in a bucket: `source` is no file then, see `at_hand`.
    """

    source: Path
    name: str
    stem: Path
    folder: Path
    bucket: str = ""
    replaces: bool = False
    raster: bool = False
    frame: int | None = None
    url: str = ""
    stored: Stored | None = None

    @property
    def given(self) -> str:
        """What the user called it."""
        if self.stored is not None:
            return self.stored.url
        return self.url or str(self.source)

    def key(self, model: str) -> str:
        """A digest of it as it is now and of the model: see `records.image_key`.

        Raises:
            OSError: it is not there.
        """
        version = "" if self.stored is None else self.stored.version.hex()
        return image_key(model, self.source, self.frame, version)

    @contextmanager
    def at_hand(self) -> Iterator["Target"]:
        """Itself with its image on the disk, for as long as it is needed.

        Raises:
            UsageError: it lies in a bucket and cannot be fetched.
            JobFailed: likewise, as its server cannot be reached.
        """
        if self.stored is None:
            yield self
            return
        with fetched(self.stored) as path:
            yield replace(self, source=path, raster=is_raster(path))

    def variants(self) -> tuple["Target", ...]:
        """What it may turn out to be: of a TIFF in a bucket only its content tells."""
        if self.stored is None or not self.stored.may_be_raster:
            return (self,)
        return (self, replace(self, raster=True))

    @property
    def mask(self) -> Path:
        """The class ids."""
        return self._with(".tif" if self.raster else ".png")

    @property
    def mask_name(self) -> str:
        """The mask as the table calls it: its path below the folder of all masks."""
        return self.mask.relative_to(self.folder).as_posix()

    @property
    def color(self) -> Path:
        """The class ids in colours."""
        return self._with(".color.png")

    @property
    def overlay(self) -> Path:
        """The image with the colours over it."""
        return self._with(".overlay.jpg")

    @property
    def probabilities(self) -> Path:
        """The probability of each class."""
        return self._with(".probabilities.tif" if self.raster else ".npz")

    def polygons(self, kind: str) -> Path:
        """The outlines of regions, in one of the formats of `settings.FORMATS`."""
        return self._with(".geojson" if kind == "geojson" else f".{kind}.json")

    def asked(self, settings: Settings) -> tuple[Path, ...]:
        """What a prediction writes; a raster's mask has its colours in itself."""
        return (
            self.mask,
            *(() if self.raster else (self.color,)),
            *((self.overlay,) if settings.overlay else ()),
            *((self.probabilities,) if settings.probabilities else ()),
            *map(self.polygons, settings.polygons),
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All that a prediction may write."""
        return self.asked(Settings(overlay=True, probabilities=True, polygons=FORMATS))

    def record(self, key: str, figures: Mapping[str, Any], settings: Settings) -> Record:
        """What its mask is to say of itself."""
        endings = (file.name[len(self.stem.name) :] for file in self.asked(settings)[1:])
        return Record(self.name, key, figures, tuple(endings))

    def owned(self, record: Record | None) -> tuple[Path, ...]:
        """The files that its mask, by what this says of itself, accounts for."""
        if record is None or record.name != self.name:
            return ()
        return (self.mask, *map(self._with, record.files))

    def _with(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)
