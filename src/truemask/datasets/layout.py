"""Finding the image files of a folder, and telling images from masks by where they lie.

A path is read from the top: as long as a folder's name says what it holds ("masks", "train",
"train_masks"), it is taken at its word; from the first other name on, the path is the name of the
sample. So one rule covers `images/` + `masks/`, `train/images/` + `train/masks/`, `images/train/` +
`masks/train/`, `train/` + `train_masks/`, and files side by side.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from truemask.datasets.decoding import SUFFIXES
from truemask.errors import UsageError

Kind = Literal["image", "mask", "other"]

_PARTS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_IMAGE_WORDS = "image images img imgs photo photos picture pictures input inputs jpegimages rgb"
_MASK_WORDS = (
    "mask masks label labels annotation annotations annot annots groundtruth gt gts target targets "
    "segmentation segmentations segmentationclass seg segs labelmap labelmaps"
)
_KINDS: dict[str, Kind] = {word: "image" for word in _IMAGE_WORDS.split()}
_KINDS |= {word: "mask" for word in _MASK_WORDS.split()}

# Images and labels in formats that are not read: worth a word when they turn up.
_UNREAD = ".heic .heif .avif .jp2 .j2k .jxl .npy .npz .mat .dcm .nii .svg .exr .ppm .pgm .tga"

LAYOUTS = (
    "images/ + masks/, or train/ + val/ (+ test/) with those inside, or files such as x.jpg + "
    "x_mask.png"
)
"""What a folder may look like, for messages."""


@dataclass(frozen=True)
class ImageFile:
    """A file that may be an image or a mask.

    Attributes:
        path: where it is.
        part: "train", "validation" or "test" if a folder's name says so.
        kind: "image" or "mask" if a folder's name says so; "other" for a folder that was ruled out.
        key: its path below the folders that say what they hold, without ending.
    """

    path: Path
    part: str | None
    kind: Kind | None
    key: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Attributes:
        files: what may be an image or a mask, in the order of names.
        part_folders: part -> a folder of that name, which may be empty.
        notes: what was left out.
    """

    files: list[ImageFile]
    part_folders: dict[str, Path]
    notes: list[str]


def list_files(
    root: Path, *, image_folder: str | None = None, mask_folder: str | None = None
) -> Listing:
    """List everything below `root` that may be an image or a mask.

    Args:
        root: the folder.
        image_folder: the only name of folders that hold images; None for the usual ones.
        mask_folder: the only name of folders that hold masks; None for the usual ones.

    Raises:
        UsageError: there is no such folder, or it holds no images.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UsageError(f"{root} {what}: give a folder with {LAYOUTS}")
    reader = _NameReader(image_folder, mask_folder)
    files: list[ImageFile] = []
    unread: Counter[str] = Counter()
    part_folders: dict[str, Path] = {}
    above: dict[Path, frozenset[tuple[int, int]]] = {}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        here = above.pop(Path(folder), frozenset()) | {(status.st_dev, status.st_ino)}
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__")))
        # A link to a folder that it lies in would lead round and round.
        subfolders[:] = [name for name in subfolders if not _leads_back(Path(folder, name), here)]
        above |= {Path(folder, name): here for name in subfolders}
        part, kind, rest = reader.read(Path(folder).relative_to(root).parts)
        if part is not None and not rest:
            part_folders.setdefault(part, Path(folder))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder) / name
            if path.suffix.lower() in SUFFIXES:
                files.append(ImageFile(path, part, kind, "/".join((*rest, path.stem))))
            elif path.suffix.lower() in _UNREAD.split():
                unread[path.suffix.lower()] += 1
    left_out = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
    if not files:
        strange = f" but {left_out}, which are not read" if unread else ""
        raise UsageError(f"{root} holds no images{strange}: expected {LAYOUTS}")
    notes = [f"Files of formats that are not read were left out: {left_out}."] if unread else []
    return Listing(files, part_folders, notes)


def _leads_back(folder: Path, above: Collection[tuple[int, int]]) -> bool:
    if not folder.is_symlink():
        return False
    status = folder.stat()
    return (status.st_dev, status.st_ino) in above


@dataclass(frozen=True)
class _NameReader:
    """Reads the names of folders, of which a user may have given some."""

    image_folder: str | None
    mask_folder: str | None

    def read(self, names: Sequence[str]) -> tuple[str | None, Kind | None, Sequence[str]]:
        """Part and kind that the names of nested folders state, and the names behind those."""
        part: str | None = None
        kind: Kind | None = None
        for place, name in enumerate(names):
            its_part, its_kind = self._read_one(name)
            told = its_part is not None or its_kind is not None
            if not told or (its_part and part) or (its_kind and kind):
                return part, kind, names[place:]
            part, kind = its_part or part, its_kind or kind
        return part, kind, ()

    def _read_one(self, name: str) -> tuple[str | None, Kind | None]:
        """What one name states: "val" a part, "train_masks" a part and a kind."""
        if name == self.mask_folder:
            return None, "mask"
        if name == self.image_folder:
            return None, "image"
        part, kind = _read_words(re.sub(r"[^a-z]", "", name.lower()))
        given = {"mask": self.mask_folder, "image": self.image_folder}
        return part, "other" if kind is not None and given[kind] is not None else kind


def _read_words(word: str) -> tuple[str | None, Kind | None]:
    if word in _KINDS:
        return None, _KINDS[word]
    for name in sorted(_PARTS, key=len, reverse=True):
        for rest in (word.removeprefix(name), word.removesuffix(name)):
            if rest != word and (rest == "" or rest in _KINDS):
                return _PARTS[name], _KINDS.get(rest)
    return None, None


def some(names: Sequence[object], limit: int = 3) -> str:
    """The first few of many names, for a message."""
    shown = ", ".join(str(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
