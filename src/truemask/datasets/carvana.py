"""Carvana, the image masking challenge of Kaggle: 318 cars, each photographed from 16 sides.

train/HASH_01.jpg .. HASH_16.jpg    images, 1918x1280
train_masks/HASH_01_mask.gif        masks; PNG copies are read as well
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from truemask.datasets.layout import some
from truemask.datasets.lists import pairs_of, require_folder
from truemask.datasets.part_folders import own_parts
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.labels import LabelMap

LABELS = LabelMap(names=("background", "car"), values={0: 0, 1: 1, 255: 1})
"""A GIF of black and white reads as 0 and 255, one whose colours mean nothing as 0 and 1."""

_DATASET = "Carvana"
_LAYOUT = "train/*.jpg + train_masks/*_mask.gif"
_SOURCE = (
    "https://www.kaggle.com/c/carvana-image-masking-challenge (register and accept the rules; "
    "train.zip and train_masks.zip)"
)
_NAME = re.compile(r"(?P<car>.+)_(?P<view>\d\d)")
_MARK = "_mask"


def carvana(root: Path | str) -> Parts:
    """Open Carvana: one part, "train", as the masks of Kaggle's test are not public.

    Each sample has the attributes `car` and `view` ("01" to "16"). Photos of one car are alike, so
    a split should keep them together.

    Args:
        root: the folder that holds `train` and `train_masks`.

    Raises:
        UsageError: there is no such dataset, or an image or a mask stands alone.
    """
    root = Path(root)
    images = require_folder(root / "train", dataset=_DATASET, source=_SOURCE, layout=_LAYOUT)
    masks = _mask_folder(root)
    mask_of = {path.stem.removesuffix(_MARK): path for path in _files(masks, (".png", ".gif"))}
    image_of = {path.stem: path for path in _files(images, (".jpg",))}
    names = list(image_of)
    _refuse_lonely(root, names, mask_of)
    pairs = pairs_of(
        names,
        part="train",
        image=image_of.__getitem__,
        mask=mask_of.__getitem__,
        attributes=_attributes,
        source=str(images),
    )
    parts = own_parts(pairs, LABELS, root=root, layout=_LAYOUT, how="are all that have masks")
    alike = "The 16 photos of a car are alike: split by the attribute car (data.split.group=car)."
    return replace(parts, notes=(*parts.notes, alike), division=(*parts.division, alike))


def _mask_folder(root: Path) -> Path:
    runs = root / "train_masks.csv"
    packed = root / "train_masks.zip"
    if runs.is_file() and not (root / "train_masks").is_dir() and not packed.is_file():
        raise UsageError(
            f"{runs} holds run lengths, which are not read: extract train_masks.zip of {_SOURCE} "
            f"beside it, so that {root / 'train_masks'} is there"
        )
    return require_folder(root / "train_masks", dataset=_DATASET, source=_SOURCE, layout=_LAYOUT)


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files with one of these endings; of two with one name, that with the last ending."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    order = {ending: place for place, ending in enumerate(endings)}
    found = [path for path in paths if path.suffix.lower() in order]
    if not found:
        raise UsageError(
            f"{folder} holds no {' or '.join(endings)} files: Carvana looks like {_LAYOUT}; get it "
            f"from {_SOURCE}"
        )
    return sorted(found, key=lambda path: (order[path.suffix.lower()], path.name))


def _refuse_lonely(root: Path, names: list[str], masks: Mapping[str, Path]) -> None:
    images = set(names)
    for what, lonely, other in (
        ("images", sorted(images - masks.keys()), "masks"),
        ("masks", sorted(masks.keys() - images), "images"),
    ):
        if lonely:
            raise UsageError(
                f"{root}: {len(lonely)} {what} have no {other} ({some(lonely)}): extract train.zip "
                "and train_masks.zip again, or remove them"
            )


def _attributes(name: str) -> Mapping[str, str]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError(
            f"train/{name}.jpg is not named as Carvana's images are (CAR_01.jpg to CAR_16.jpg): "
            "remove it and its mask, or open the data as a folder of images and masks"
        )
    return found.groupdict()
