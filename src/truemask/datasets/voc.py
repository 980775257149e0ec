"""PASCAL VOC 2007 and 2012, the segmentation task, as its archives unpack.

    VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val}.txt   lists of names
    VOCdevkit/VOC2012/JPEGImages/NAME.jpg                      images
    VOCdevkit/VOC2012/SegmentationClass/NAME.png               masks, whose palette indices are ids

Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 2015.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from torchvision.datasets.voc import DATASET_YEAR_DICT

from truemask.datasets.decoding import open_image
from truemask.datasets.downloads import fetch, terminal_progress
from truemask.datasets.lists import find_home, pairs_of, read_list, require_folder
from truemask.datasets.mask_files import palette_of, read_open_mask
from truemask.datasets.paired import RawMask
from truemask.datasets.pairing import Pair
from truemask.datasets.part_folders import own_parts, path_of
from truemask.datasets.receiving import Archive
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.labels import LabelMap

Year = Literal["2007", "2012"]
"""A challenge."""

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

COLORS = (
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
    (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128),
    (192, 0, 128), (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0),
    (128, 192, 0), (0, 64, 128),
)  # fmt: skip

LABELS = LabelMap(
    names=NAMES,
    colors=COLORS,
    values={**{index: index for index in range(len(NAMES))}, 255: 255},
    ignore_name="void",
    ignore_color=(224, 224, 192),
)
"""Void is the outline of objects, and what nobody could tell."""

_ARCHIVES: dict[Year, tuple[str, ...]] = {"2007": ("2007", "2007-test"), "2012": ("2012",)}
_LISTS = {"train": "train", "val": "validation", "test": "test"}


def voc(
    root: Path | str,
    *,
    year: Literal["2007", "2012", 2007, 2012] = "2012",
    test: bool = True,
    download: bool = False,
) -> Parts:
    """Open PASCAL VOC: its list "train" trains, "val" validates; that of 2007 has a test part too.

    Each sample has the attribute `year`, in which its photo entered the challenge.

    Args:
        root: the folder that holds `VOCdevkit`, `VOCdevkit` itself, or `VOC2012` itself.
        year: of the challenge. The masks of the test of 2012 were never published.
        test: whether the test part of 2007 is used where it is there.
        download: fetch what is missing, into `root/VOCdevkit`, and check it; 2 GB for 2012, 0.9 GB
            for 2007. Nothing is fetched where all is there.

    Raises:
        UsageError: there is no such dataset, or files of it are missing.
        JobFailed: the download failed.
    """
    if str(year) not in _ARCHIVES:
        raise UsageError(f"year is {year!r}; allowed are {' and '.join(_ARCHIVES)}")
    challenge: Year = "2007" if str(year) == "2007" else "2012"
    root = Path(root)
    if download and not _is_whole(root, challenge, test=test):
        with terminal_progress() as progress:
            for key in _ARCHIVES[challenge][: 2 if test else 1]:
                known = DATASET_YEAR_DICT[key]
                archive = Archive(url=known["url"], md5=known["md5"])
                fetch(archive, root, progress=progress)
    return _open(root, challenge, test=test)


def _is_whole(root: Path, year: Year, *, test: bool) -> bool:
    """Whether every file of every list is there, so that nothing needs to be fetched."""
    try:
        return len(_open(root, year, test=test)) == (3 if year == "2007" and test else 2)
    except UsageError:
        return False


def _open(root: Path, year: Year, *, test: bool) -> Parts:
    layout = f"VOCdevkit/VOC{year}/{{ImageSets/Segmentation,JPEGImages,SegmentationClass}}/"
    source = (
        f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/ (free, no registration), or let "
        "download=true fetch it"
    )
    dataset = f"PASCAL VOC {year}"
    home = find_home(
        root,
        (f"VOCdevkit/VOC{year}", f"VOC{year}", ""),
        "ImageSets/Segmentation",
        dataset=dataset,
        source=source,
        layout=layout,
    )
    for folder in ("JPEGImages", "SegmentationClass"):
        require_folder(home / folder, dataset=dataset, source=source, layout=layout)
    pairs, notes = _pairs(home, year, test=test)
    return own_parts(
        pairs,
        LABELS,
        root=home,
        layout=layout,
        how="are those of its lists",
        notes=notes,
        read_raw=read_palette_mask,
    )


def read_palette_mask(path: Path) -> RawMask:
    """The palette indices of a mask, whose palette must be that of VOC.

    A program that saves a mask again may number its colours anew: the picture looks the same, and
    every class is another.

    Raises:
        UsageError: the palette is another, or the file is unreadable.
    """
    with open_image(path) as image:
        raw = read_open_mask(image, path)
        if image.mode != "P":
            return raw
        held = np.bincount(raw.ravel(), minlength=256)
        used = np.array([index for index in LABELS.values if held[index]])
        wrong = used[(palette_of(image)[used] != LABELS.palette[used]).any(1)]
    if len(wrong) > 0:
        raise UsageError(
            f"{path} has another palette than VOC's (colour {wrong[0]} differs), so that its "
            "numbers may stand for other classes: take the mask of the original archive"
        )
    return raw


def _pairs(home: Path, year: Year, *, test: bool) -> tuple[list[Pair], list[str]]:
    image, mask = path_of(home / "JPEGImages", ".jpg"), path_of(home / "SegmentationClass", ".png")
    pairs: list[Pair] = []
    notes: list[str] = []
    for listed, part in _LISTS.items():
        path = home / "ImageSets" / "Segmentation" / f"{listed}.txt"
        if part == "test" and (year != "2007" or not test or not path.is_file()):
            continue
        names = read_list(path)
        if part == "test" and not any(mask(name).is_file() for name in names):
            notes.append(f"The test part was left out: none of its {len(names)} masks is there.")
            continue
        pairs += pairs_of(
            names,
            part=part,
            image=image,
            mask=mask,
            attributes=lambda name: {"year": _year(name, year)},
            source=str(path),
        )
    return pairs, notes


def _year(name: str, challenge: str) -> str:
    """Names of later challenges begin with a year, as in "2007_000032"; those of 2007 do not."""
    year, mark, _ = name.partition("_")
    return year if mark and len(year) == 4 and year.isdigit() else challenge
