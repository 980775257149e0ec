"""Which images to predict, and under which names their masks are written, so that nothing is lost.

A mask is named after its image. Where two images would get one name, they keep the name of their
folder, or their ending: `a/x.jpg` and `b/x.jpg` become `a/x.png` and `b/x.png`, `x.jpg` and `x.png`
become `x.jpg.png` and `x.png.png`. Names that some disks do not tell apart (`x.jpg`, `X.JPG`) get
digits, a digest of the image's own name: `x.jpg.5f3a90c1.png`. These are the same in the next call,
whatever was added to the folder. Frames of a video get a folder, and names of number and time.
Every mask says in its header which image it is of; a file that does not say so is not overwritten.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import overload

import numpy as np

from truemask.datasets.decoding import SUFFIXES
from truemask.datasets.shard_server import Server
from truemask.errors import UsageError
from truemask.inference import videos
from truemask.inference.buckets import Stored, find_stored, is_bucket
from truemask.inference.out import Out, OutFolder
from truemask.inference.settings import Settings
from truemask.inference.target import Target
from truemask.inference.tiff_tags import is_raster
from truemask.inference.videos import frame_times

_WITHIN = (".color", ".probabilities")
"""What the mask of another image may end with, before its own ending: see `Target.files`."""


@dataclass(frozen=True)
class _Found:
    """An image, its path below the input that held it, and the name of that input's folder."""

    source: Path
    relative: Path
    folder: str
    frame: int | None = None

    def named(self, level: int) -> Path:
        """A name for its mask, without ending, from the shortest to the most distinct."""
        if level >= 4:
            known = self.relative if level == 4 else self.way
            return _marked(self.relative if level == 4 else self.folder / self.relative, known)
        name = self.relative
        if level < 2 and self.frame is None:
            name = name.with_name(name.stem)
        elif level < 2:
            name = name.parent.with_name(name.parent.stem) / name.name
        return self.folder / name if level % 2 else name

    @property
    def way(self) -> Path:
        """The way to it, as it was given; no two images have one."""
        return self.source if self.frame is None else self.source / self.relative.name


_LEVELS = 6
"""How many names an image may get, see `_Found.named` and `Stored.stem`."""


def _marked(name: Path, known: Path) -> Path:
    digest = blake2b(os.fsencode(known.as_posix()), digest_size=4).hexdigest()
    return name.with_name(f"{name.name}.{digest}")


class Targets(Sequence[Target]):
    """Targets that are made when they are asked for: a million take little room."""

    def __init__(
        self, found: "Sequence[_Found | Stored]", rasters: bytes, levels: bytes, out: Out
    ) -> None:
        self._found, self._rasters, self._levels, self._out = found, rasters, levels, out

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Target: ...
    @overload
    def __getitem__(self, index: slice) -> "Targets": ...
    def __getitem__(self, index: int | slice) -> "Target | Targets":
        found, raster, level = self._found[index], self._rasters[index], self._levels[index]
        if isinstance(index, slice):
            return Targets(found, raster, level, self._out)  # type: ignore[arg-type]
        return _target(found, bool(raster), level, self._out)  # type: ignore[arg-type]

    def take(self, indices: Sequence[int]) -> "Targets":
        """Those at some places."""
        return Targets(
            [self._found[index] for index in indices],
            bytes(self._rasters[index] for index in indices),
            bytes(self._levels[index] for index in indices),
            self._out,
        )


def find_targets(
    inputs: Sequence[Path | str],
    out: Out | Path,
    settings: Settings | None = None,
    *,
    every: int = 1,
) -> Targets:
    """The images of all inputs in order, each once.

    Args:
        inputs: images, videos, folders (searched recursively for images, hidden files left out),
            globs, and URLs of buckets.
        out: the folder for the masks; what lies in it is no image of a folder or glob around it.
        every: of how many frames of a video one is taken, the first among them.
        settings: what will be written; `None` for all that there is.

    Raises:
        UsageError: an input does not exist or holds no image, or a file would be overwritten that
            is no earlier mask of an image of that name.
    """
    out = OutFolder(out) if isinstance(out, Path) else out
    found = _find_all(inputs, out, every)
    rasters = bytes(isinstance(image, _Found) and is_raster(image.source) for image in found)
    targets = _name(found, rasters, out)
    if not out.exists(out.folder):
        return targets
    out.look_at(each.mask for target in targets for each in target.variants())
    sources = set(_sources(found, out))
    for target in targets:
        _refuse_to_overwrite(target, out, settings, sources)
    return targets


def find_images(inputs: Sequence[Path], out: Path) -> list[Path]:
    """The images of all inputs in order, each once; the arguments and errors of `find_targets`."""
    found = _find_all(inputs, OutFolder(out), 1)
    return [image.source for image in found if isinstance(image, _Found)]


def _find_all(inputs: Sequence[Path | str], out: Out, every: int) -> "list[_Found | Stored]":
    if every < 1:
        raise UsageError(f"--every {every} is no number of frames: give 1 or more")
    found: list[_Found | Stored] = []
    seen: set[tuple[str, str | int | None]] = set()
    for given in inputs:
        before = len(found)
        for image in _find(given, out=out, every=every):
            if not isinstance(image, Stored):
                key: tuple[str, str | int | None] = (os.path.abspath(image.source), image.frame)
            elif len(inputs) == 1:  # a listing names each object once
                found.append(image)
                continue
            else:
                key = (image.url, "")
            if key not in seen:
                seen.add(key)
                found.append(image)
            before = -1
        if len(found) == before:
            where = given if isinstance(given, Path) else Server(given).shown
            endings = ", ".join(sorted(SUFFIXES))
            raise UsageError(f"there is no image in {where}: looked for files ending in {endings}")
    return found


def _find(given: Path | str, *, out: Out, every: int) -> "Iterator[_Found | Stored]":
    if isinstance(given, str) and is_bucket(given):
        yield from _find_stored(given, out)
        return
    # None lies in a bucket.
    outside = None if out.url else out.folder.resolve()
    path = Path(given)
    if path.is_dir():
        if path.resolve() == outside:
            raise _same(out)
        for file in _walk(path, outside=outside):
            yield _Found(file, file.relative_to(path), path.resolve().name)
    elif path.exists() and path.suffix.lower() in videos.SUFFIXES:
        for index, time in list(enumerate(frame_times(path)))[::every]:
            minutes, seconds = divmod(round(time * 1000), 60_000)
            name = f"{index:06d}_{minutes:02d}m{seconds // 1000:02d}s{seconds % 1000:03d}"
            yield _Found(path, Path(path.name, name), path.resolve().parent.name, index)
    elif path.exists():
        yield _Found(path, Path(path.name), path.resolve().parent.name)
    elif glob.has_magic(str(path)):
        yield from _matches(path, outside=outside)
    else:
        raise UsageError(f"{path} does not exist: give images, folders or globs")


def _find_stored(url: str, out: Out) -> Iterator[Stored]:
    if out.url == url.rstrip("/"):
        raise _same(out)
    for image in find_stored(url):
        # One that is itself given is taken.
        if not (image.inside(out.url) and out.url.startswith(f"{image.root.rstrip('/')}/")):
            yield image


def _same(out: Out) -> UsageError:
    return UsageError(
        f"--out is the folder of the images ({out.shown}): choose another, or the next time its "
        "masks will be taken for images"
    )


def _matches(pattern: Path, *, outside: Path | None) -> Iterator[_Found]:
    """Images that a glob names, and those in folders that it names."""
    base = Path(*_before_magic(pattern))
    place = base.resolve()
    for match in sorted(map(Path, glob.glob(str(pattern), recursive=True))):
        folders = match.resolve().parents
        if outside is not None and place in outside.parents and outside in folders:
            continue
        for file in _walk(match, outside=outside) if match.is_dir() else _image(match):
            yield _Found(file, file.relative_to(base), place.name)


def _before_magic(path: Path) -> Iterator[str]:
    for part in path.parts:
        if glob.has_magic(part):
            return
        yield part


def _walk(folder: Path, *, outside: Path | None) -> Iterator[Path]:
    """Images in a folder and below it, in the order of their names, without those of a folder."""
    if folder.resolve() == outside:
        return
    seen = {outside, folder.resolve()}
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


def _name(found: "Sequence[_Found | Stored]", rasters: bytes, out: Out) -> Targets:
    """Give each image the shortest name whose files no other image writes."""
    levels = bytearray(len(found))
    while True:
        clashing = _clashing(found, levels)
        if not clashing:
            return Targets(found, rasters, bytes(levels), out)
        if all(levels[i] == _LEVELS - 1 for i in clashing):  # two digests that agree
            targets = Targets(found, rasters, bytes(levels), out)
            first, second = (targets[i].given for i in clashing[:2])
            raise UsageError(
                f"the masks of {first} and {second} would get one name: predict them one by one, "
                "each with an --out of its own"
            )
        for i in clashing:
            levels[i] = min(levels[i] + 1, _LEVELS - 1)


def _clashing(found: "Sequence[_Found | Stored]", levels: bytearray) -> list[int]:
    """Images of which a file would be called as one of another, such as `x.png` and `X.png`.

    Some file systems do not tell these two apart. Only numbers are kept of the names, of which
    there may be millions: that two of them agree by chance would cost no more than a longer name.
    """
    codes = np.empty(len(found), np.int64)
    others: set[int] = set()
    for index, (image, level) in enumerate(zip(found, levels, strict=True)):
        stem = _stem(image, level).casefold()
        codes[index] = hash(stem)
        for ending in _WITHIN:
            if stem.endswith(ending):
                others |= {int(codes[index]), hash(stem.removesuffix(ending))}
    values, counts = np.unique(codes, return_counts=True)
    twice = np.isin(codes, values[counts > 1])
    for index in np.flatnonzero(np.isin(codes, list(others))).tolist() if others else ():
        stem = _stem(found[index], levels[index]).casefold()
        near = [hash(stem + ending) for ending in _WITHIN]
        near += [hash(stem.removesuffix(ending)) for ending in _WITHIN if stem.endswith(ending)]
        twice[index] |= bool(np.isin(near, values).any())
    return [int(index) for index in np.flatnonzero(twice)]


def _stem(image: "_Found | Stored", level: int) -> str:
    return image.stem(level) if isinstance(image, Stored) else image.named(level).as_posix()


def _target(image: "_Found | Stored", raster: bool, level: int, out: Out) -> Target:
    if isinstance(image, Stored):
        name = image.url if level == _LEVELS - 1 else image.stem(2 + level % 2)
        source, stem, frame, stored = Path(image.name), Path(image.stem(level)), None, image
    else:
        known = image.way if level == _LEVELS - 1 else image.named(2 + level % 2)
        name = known.as_posix()
        source, stem, frame, stored = image.source, image.named(level), image.frame, None
    target = Target(
        source=source,
        name=name.encode("utf-8", "replace").decode(),
        stem=out.folder / stem,
        folder=out.folder,
        bucket=out.url,
        raster=raster,
        frame=frame,
        stored=stored,
    )
    if out.url and any(out.exists(each.mask) for each in target.variants()):
        target = replace(target, replaces=True)
    return target


def _sources(found: "Sequence[_Found | Stored]", out: Out) -> Iterator[str]:
    """The images that might lie where masks will, as `_place` names files of these."""
    for image in found:
        if isinstance(image, _Found):
            if not out.url:
                yield os.path.realpath(image.source)
        elif out.url and image.inside(out.url):
            yield image.url


def _place(file: Path, out: Out) -> str:
    return f"{out.shown}/{file.as_posix()}" if out.url else os.path.realpath(file)


def _refuse_to_overwrite(
    target: Target, out: Out, settings: Settings | None, sources: set[str]
) -> None:
    variants = target.variants()
    files = [
        file for each in variants for file in (each.asked(settings) if settings else each.files)
    ]
    there = [file for file in files if out.exists(file)]
    if not there:
        return
    owned = [file for each in variants for file in each.owned(out.record(each.mask))]
    for file in there:
        place = _place(file, out)
        shown = place if out.url else file
        if place in sources:
            raise UsageError(
                f"{shown} is one of the images, which the prediction of {target.given} would "
                "overwrite: choose another --out"
            )
        if file not in owned:
            raise UsageError(
                f"{shown} exists, and is no earlier prediction of {target.name}: choose another "
                "--out, or move it away"
            )
