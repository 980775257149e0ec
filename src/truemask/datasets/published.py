"""Published datasets, known by the names of their folders: read as plain folders they mislead."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from truemask.errors import UsageError


class _Mark(NamedTuple):
    """By what a dataset is known.

    Attributes:
        name: of the dataset.
        group: what reads it, as `data=GROUP`.
        folders: that lie below its home, all of them.
        homes: where its home is below the folder that is given.
        more: further words that it needs, by the home that was found.
    """

    name: str
    group: str
    folders: tuple[str, ...]
    homes: tuple[str, ...] = ("",)
    more: Callable[[Path], str] = lambda home: ""


def _year(home: Path) -> str:
    year = home.name.removeprefix("VOC")
    return f" data.dataset.year={year}" if year in ("2007", "2012") else ""


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
)  # fmt: skip


def published_hint(root: Path) -> str:
    """How to read the published dataset that lies in a folder; "" of any other folder."""
    for mark in _MARKS:
        for place in mark.homes:
            home = root / place
            if all((home / folder).is_dir() for folder in mark.folders):
                words = f"data={mark.group} data.dataset.root={root}{mark.more(home)}"
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
