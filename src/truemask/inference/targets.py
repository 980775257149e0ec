"""Which images to predict, and under which names their masks are written, so that nothing is lost.

A mask is named after its image. Where two images would get one name, they keep the name of their
folder, or their ending: `a/x.jpg` and `b/x.jpg` become `a/x.png` and `b/x.png`, `x.jpg` and `x.png`
become `x.jpg.png` and `x.png.png`. Frames of a video get a folder, and names of number and time.
Every mask says in its header which image it is of; a file that does not say so is not overwritten.
"""

import glob
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truemask.datasets.decoding import SUFFIXES
from truemask.errors import UsageError
from truemask.inference import videos
from truemask.inference.records import Record, read_record
from truemask.inference.settings import FORMATS, Settings
from truemask.inference.tiff_tags import GEOREFERENCE, HEIGHT, WIDTH, tiff_tags
from truemask.inference.videos import frame_times
from truemask.models.tiling import HUGE_SIDE


@dataclass(frozen=True, kw_only=True)
class Target:
    """One image and where its prediction goes.

    Attributes:
        source: the image.
        name: what the mask's header calls it: its path below the input that it was found in.
        stem: the path of what is written, without its ending.
        raster: whether it is a TIFF that is read in pieces and whose mask is a TIFF, since it is
            georeferenced or too large.
        frame: which frame of a video it is.
        url: where it was fetched; empty for a file.
    """

    source: Path
    name: str
    stem: Path
    raster: bool = False
    frame: int | None = None
    url: str = ""

    @property
    def given(self) -> str:
        """What the user called it."""
        return self.url or str(self.source)

    @property
    def mask(self) -> Path:
        """The class ids."""
        return self._with(".tif" if self.raster else ".png")

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


@dataclass(frozen=True)
class _Found:
    """An image, its path below the input that held it, and the name of that input's folder."""

    source: Path
    relative: Path
    folder: str
    frame: int | None = None

    def names(self) -> tuple[Path, ...]:
        """Names for its mask, without ending, from the shortest to the most distinct."""
        if self.frame is None:
            short = self.relative.with_name(self.relative.stem)
        else:
            video, frame = self.relative.parent, self.relative.name
            short = video.with_name(video.stem) / frame
        return (short, self.folder / short, self.relative, self.folder / self.relative)


def find_targets(
    inputs: Sequence[Path], out: Path, settings: Settings | None = None, *, every: int = 1
) -> list[Target]:
    """The images of all inputs in order, each once.

    Args:
        inputs: images, videos, folders (searched recursively for images, hidden files left out),
            globs.
        out: the folder for the masks; what lies in it is no image of a folder or glob around it.
        every: of how many frames of a video one is taken, the first among them.
        settings: what will be written; `None` for all that there is.

    Raises:
        UsageError: an input does not exist or holds no image, or a file would be overwritten that
            is no earlier mask of an image of that name.
    """
    found = _find_all(inputs, out, every)
    targets = _name(found, [is_raster(image.source) for image in found], out)
    sources = {os.path.realpath(target.source) for target in targets}
    for target in targets:
        _refuse_to_overwrite(target, target.asked(settings) if settings else target.files, sources)
    return targets


def find_images(inputs: Sequence[Path], out: Path) -> list[Path]:
    """The images of all inputs in order, each once; the arguments and errors of `find_targets`."""
    return [found.source for found in _find_all(inputs, out, 1)]


def _find_all(inputs: Sequence[Path], out: Path, every: int) -> list[_Found]:
    if every < 1:
        raise UsageError(f"--every {every} is no number of frames: give 1 or more")
    found: dict[tuple[str, int | None], _Found] = {}
    for path in inputs:
        images = list(_find(path, out=out, every=every))
        if not images:
            endings = ", ".join(sorted(SUFFIXES))
            raise UsageError(f"there is no image in {path}: looked for files ending in {endings}")
        for image in images:
            found.setdefault((os.path.abspath(image.source), image.frame), image)
    return list(found.values())


def _find(path: Path, *, out: Path, every: int) -> Iterator[_Found]:
    if path.is_dir():
        if path.resolve() == out.resolve():
            raise UsageError(
                f"--out is the folder of the images ({out}): choose another, or the next time its "
                "masks will be taken for images"
            )
        for file in _walk(path, out=out):
            yield _Found(file, file.relative_to(path), path.resolve().name)
    elif path.exists() and path.suffix.lower() in videos.SUFFIXES:
        for index, time in list(enumerate(frame_times(path)))[::every]:
            minutes, seconds = divmod(round(time * 1000), 60_000)
            name = f"{index:06d}_{minutes:02d}m{seconds // 1000:02d}s{seconds % 1000:03d}"
            yield _Found(path, Path(path.name, name), path.resolve().parent.name, index)
    elif path.exists():
        yield _Found(path, Path(path.name), path.resolve().parent.name)
    elif glob.has_magic(str(path)):
        yield from _matches(path, out=out)
    else:
        raise UsageError(f"{path} does not exist: give images, folders or globs")


def _matches(pattern: Path, *, out: Path) -> Iterator[_Found]:
    """Images that a glob names, and those in folders that it names."""
    base = Path(*_before_magic(pattern))
    place = base.resolve()
    for match in sorted(map(Path, glob.glob(str(pattern), recursive=True))):
        folders = match.resolve().parents
        if place in out.resolve().parents and out.resolve() in folders:
            continue
        for file in _walk(match, out=out) if match.is_dir() else _image(match):
            yield _Found(file, file.relative_to(base), place.name)


def _before_magic(path: Path) -> Iterator[str]:
    for part in path.parts:
        if glob.has_magic(part):
            return
        yield part


def _walk(folder: Path, *, out: Path) -> Iterator[Path]:
    """Images in a folder and below it, in the order of their names, without what lies in `out`."""
    if folder.resolve() == out.resolve():
        return
    seen = {out.resolve(), folder.resolve()}
    for root, folders, names in os.walk(folder, followlinks=True):
        entered = []
        for name in sorted(folders):
            place = Path(root, name).resolve()
            if not name.startswith(".") and place not in seen:
                seen.add(place)  # links may lead in circles
                entered.append(name)
        folders[:] = entered
        for name in sorted(names):
            yield from _image(Path(root, name))


def _image(path: Path) -> Iterator[Path]:
    if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
        yield path


def is_raster(path: Path) -> bool:
    """Whether a file is a TIFF that is georeferenced, or larger than is read whole."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    if path.with_suffix(".tfw").exists():
        return True
    try:
        tags = tiff_tags(path)
        pixels = int(tags[WIDTH]) * int(tags[HEIGHT])
        return pixels > HUGE_SIDE**2 or any(tag in tags for tag in GEOREFERENCE)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return False  # What is wrong with it is said when it is read.


def _name(found: list[_Found], rasters: list[bool], out: Path) -> list[Target]:
    """Give each image the shortest name whose files no other image writes."""
    levels = [0] * len(found)
    while True:
        targets = [
            _target(image, raster, level, out)
            for image, raster, level in zip(found, rasters, levels, strict=True)
        ]
        # Some file systems do not tell x.png from X.png.
        files = [[str(file).casefold() for file in target.files] for target in targets]
        counts = Counter(file for group in files for file in group)
        clashing = [i for i, group in enumerate(files) if any(counts[file] > 1 for file in group)]
        if not clashing:
            return targets
        if all(levels[i] == 3 for i in clashing):
            first, second = (found[i].source for i in clashing[:2])
            raise UsageError(
                f"the masks of {first} and {second} would get one name: predict them one by one, "
                "each with an --out of its own"
            )
        for i in clashing:
            levels[i] = min(levels[i] + 1, 3)


def _target(image: _Found, raster: bool, level: int, out: Path) -> Target:
    name = image.names()[2 + level % 2]
    text = name.as_posix().encode("utf-8", "replace").decode()
    return Target(
        source=image.source,
        name=text,
        stem=out / image.names()[level],
        raster=raster,
        frame=image.frame,
    )


def _refuse_to_overwrite(target: Target, files: Sequence[Path], sources: set[str]) -> None:
    there = [file for file in files if os.path.lexists(file)]
    if not there:
        return
    owned = target.owned(read_record(target.mask))
    for file in there:
        if os.path.realpath(file) in sources:
            raise UsageError(
                f"{file} is one of the images, which the prediction of {target.source} would "
                "overwrite: choose another --out"
            )
        if file not in owned:
            raise UsageError(
                f"{file} exists, and is no earlier prediction of {target.name}: choose another "
                "--out, or move it away"
            )
