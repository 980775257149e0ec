"""Published datasets, known by the names of their folders: read as plain folders they mislead."""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from truemask.errors import UsageError


class _Mark(NamedTuple):
    """By what a dataset is known.

    Attributes:
        name: of the dataset.
        group: what reads it, as `data=GROUP`.
        folders: that lie below its home, all of them.
        homes: where its home is below the folder that is given.
        more: further words that it needs, by the home that was found.
        sure: whether a home with these folders is this dataset, where others have them too.
    """

    name: str
    group: str
    folders: tuple[str, ...]
    homes: tuple[str, ...] = ("",)
    more: Callable[[Path], str] = lambda home: ""
    sure: Callable[[Path], bool] = lambda home: True


def _year(home: Path) -> str:
    year = home.name.removeprefix("VOC")
    return f" data.dataset.year={year}" if year in ("2007", "2012") else ""


def _views_of_cars(home: Path) -> bool:
    """Whether the images are named as Carvana's: a car's sixteen views fall into several parts."""
    return _any_named(home / "train", r"[0-9a-f]{12}_(0[1-9]|1[0-6])\.jpg") is not None


def _frames_of_a_game(home: Path) -> bool:
    """Whether masks are numbered, and show roads, as GTA5's do, in the colour of Cityscapes."""
    mask = _any_named(home / "labels", r"\d{5}\.png")
    if mask is None or _any_named(home / "images", r"\d{5}\.png") is None:
        return False
    try:
        with Image.open(mask) as opened:
            palette = opened.getpalette() or []
    except (OSError, ValueError):
        return False
    return (128, 64, 128) in zip(*[iter(palette)] * 3, strict=False)


def _any_named(folder: Path, pattern: str) -> Path | None:
    """A file of the folder whose name is as the pattern says."""
    return next((path for path in folder.iterdir() if re.fullmatch(pattern, path.name)), None)


_MARKS = (
    _Mark("BDD100K", "bdd100k", ("images/10k", "labels/sem_seg"), ("", "bdd100k")),
    _Mark(
        "PASCAL VOC", "voc", ("JPEGImages", "SegmentationClass", "ImageSets"),
        ("", "VOC2012", "VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2007"), _year,
    ),
    _Mark("Cityscapes", "cityscapes", ("leftImg8bit", "gtFine")),
    _Mark("CamVid", "camvid", ("701_StillsRaw_full", "LabeledApproved_full")),
    _Mark("CamVid", "camvid", ("train", "trainannot", "val", "valannot")),
    _Mark("BSDS500", "bsds500", ("groundTruth", "images"), ("", "BSR/BSDS500/data", "data")),
    _Mark("BSDS500", "bsds500", ("train/boundaries", "train/images", "val/boundaries")),
    _Mark(
        "Oxford-IIIT Pet", "oxford_pet", ("annotations/trimaps", "images"),
        ("", "oxford-iiit-pet"),
    ),
    _Mark("Carvana", "carvana", ("train", "train_masks"), sure=_views_of_cars),
    _Mark("GTA5", "gta5", ("images", "labels"), sure=_frames_of_a_game),
)  # fmt: skip


def published_hint(root: Path) -> str:
    """How to read the published dataset that lies in a folder; "" of any other folder."""
    for mark in _MARKS:
        for place in mark.homes:
            home = root / place
            if all((home / folder).is_dir() for folder in mark.folders) and mark.sure(home):
                where = shlex.quote(f"data.dataset.root={root}")
                words = f"data={mark.group} {where}{mark.more(home)}"
                return f"this looks like {mark.name}, whose classes and parts are known: {words}"
    return ""


@contextmanager
def hinted(hint: str) -> Iterator[None]:
    """Within this, what is wrong with a folder is told with the hint, if there is one."""
    try:
        yield
    except UsageError as error:
        if not hint:
            raise
        raise UsageError(f"{hint} (as a plain folder: {error})") from error
