"""Sound experiments to inject faults into: real photographs, miniatures, textures."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from truemask.datasets.bdd100k import bdd100k
from truemask.datasets.carvana import carvana
from truemask.datasets.cityscapes import cityscapes
from truemask.datasets.gta5 import gta5
from truemask.datasets.sample import SegmentationDataset
from truemask.datasets.textures import textures
from truemask.datasets.voc import voc
from truemask.miniatures.writing import write_miniature

REAL = Path(__file__).parents[3] / "shared" / "data"
"""Where the real images are; what needs them is left out where they are not."""

KEPT = os.environ.get("TRUEMASK_MINIATURES")
"""A folder in which miniatures stay from one run of the benchmark to the next."""

IGNORED = 255
Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """An image, (H, W, 3) of 0 to 255 or (H, W, 1) of 0 to 1, and its mask, (H, W) class ids."""

    name: str
    image: Array
    mask: Array

    def with_mask(self, mask: Array) -> "Pair":
        """The same image with another mask."""
        return replace(self, mask=mask)

    def with_image(self, image: Array) -> "Pair":
        """The same mask with another image."""
        return replace(self, image=image)


@dataclass(frozen=True, kw_only=True)
class Material:
    """A sound experiment's data.

    Attributes:
        name: of the experiment.
        train: pairs of the training part.
        validation: pairs of the validation part.
        classes: their names, in the order of their ids.
    """

    name: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.classes) == 2

    def replaced(
        self, train: Sequence[Pair] | None = None, validation: Sequence[Pair] | None = None
    ) -> "Material":
        """The same with other pairs in a part."""
        return replace(
            self,
            train=self.train if train is None else tuple(train),
            validation=self.validation if validation is None else tuple(validation),
        )


@cache
def scratch() -> Path:
    """A folder that goes when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="truemask-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_folder() -> Path:
    """An empty folder below `scratch`."""
    return Path(tempfile.mkdtemp(dir=scratch()))


def real_data_is_there() -> bool:
    """Whether the real images can be read."""
    return (REAL / "camvid" / "classes.json").exists()


def available() -> tuple[str, ...]:
    """Names of the materials that can be had here."""
    real = ("camvid", "crackforest", "bsds500") if real_data_is_there() else ()
    return (*real, *_GENERATED)


@cache
def material(name: str) -> Material:
    """A sound experiment by its name."""
    return {**_REAL, **_GENERATED}[name]()


def _real_pairs(folder: Path, masks: str, edit: Callable[[Array], Array]) -> Iterator[Pair]:
    for file in sorted((folder / "images").iterdir()):
        with Image.open(file) as image, Image.open(folder / masks / f"{file.stem}.png") as mask:
            yield Pair(file.stem, np.array(image.convert("RGB")), edit(np.array(mask)))


def _camvid() -> Material:
    """Every third training image, every second of the validation clip; 11 is void."""
    names = "sky building pole road pavement tree sign fence car pedestrian bicyclist"

    def void(mask: Array) -> Array:
        return np.where(mask == 11, IGNORED, mask).astype(np.uint8)

    train = tuple(_real_pairs(REAL / "camvid" / "train", "masks", void))
    validation = tuple(_real_pairs(REAL / "camvid" / "val", "masks", void))
    return Material(
        name="camvid", train=train[::3], validation=validation[::2], classes=tuple(names.split())
    )


def _crackforest() -> Material:
    """Without image 042, whose published mask shows cracks that are not in the photograph."""
    train, validation = (
        tuple(_real_pairs(REAL / "crackforest" / part, "masks", np.array))
        for part in ("train", "val")
    )
    train = tuple(pair for pair in train if pair.name != "042")
    return Material(
        name="crackforest", train=train, validation=validation, classes=("background", "crack")
    )


def _bsds500() -> Material:
    """Half of the images; an edge is what anybody drew."""

    def edge(mask: Array) -> Array:
        return (mask > 0).astype(np.uint8)

    train, validation = (
        tuple(_real_pairs(REAL / "bsds500" / part, "boundaries", edge)) for part in ("train", "val")
    )
    return Material(
        name="bsds500",
        train=train[::2],
        validation=validation[::2],
        classes=("background", "edge"),
    )


def _pairs_of(dataset: SegmentationDataset, count: int) -> tuple[Pair, ...]:
    pairs = []
    for i in range(min(count, len(dataset))):
        sample = dataset[i]
        image = sample.image.permute(1, 2, 0).contiguous().numpy()
        pairs.append(Pair(sample.name.replace("/", "_"), image, sample.mask.numpy().copy()))
    return tuple(pairs)


def _textures() -> Material:
    parts = textures(size=96, train=60, validation=40)
    return Material(
        name="textures",
        train=_pairs_of(parts["train"], 60),
        validation=_pairs_of(parts["validation"], 40),
        classes=("omega_2", "omega_1"),
    )


@cache
def miniature(name: str) -> Path:
    """A miniature on disk, in the published layout, of its default number of images."""
    folder = (Path(KEPT) if KEPT else scratch()) / name
    return folder if folder.exists() else write_miniature(name, folder)


def _benchmarks() -> Material:
    """PASCAL VOC: 21 classes, void is ignored."""
    parts = voc(miniature("voc2012"))
    train, validation = (_pairs_of(parts[part], 100) for part in ("train", "validation"))
    classes = parts["train"].labels.names
    return Material(name="benchmarks", train=train, validation=validation, classes=classes)


def _edges() -> Material:
    """PASCAL VOC: the void border is the positive class."""

    def border(pair: Pair) -> Pair:
        return pair.with_mask((pair.mask == IGNORED).astype(np.uint8))

    source = material("benchmarks")
    return Material(
        name="edges",
        train=tuple(map(border, source.train)),
        validation=tuple(map(border, source.validation)),
        classes=("rest", "edge"),
    )


def _driving() -> Material:
    """BDD100K: five classes are kept, all others are ignored.

    The miniature mislabels the road in some images, as published; these are left out.
    """
    kept = {0: 0, 2: 1, 8: 2, 10: 3, 13: 4}
    table = np.full(256, IGNORED, np.uint8)
    table[list(kept)] = list(kept.values())

    def keep(pair: Pair) -> Pair:
        return pair.with_mask(table[pair.mask])

    parts = bdd100k(miniature("bdd100k"))
    train, validation = (
        tuple(pair for pair in map(keep, _pairs_of(parts[part], 100)) if (pair.mask == 0).any())
        for part in ("train", "validation")
    )
    classes = ("road", "building", "vegetation", "sky", "car")
    return Material(name="driving", train=train, validation=validation, classes=classes)


def _cityscapes() -> Material:
    """The 19 classes of the benchmark; the car's own bonnet is ignored."""
    parts = cityscapes(miniature("cityscapes"))
    train, validation = (_pairs_of(parts[part], 100) for part in ("train", "validation"))
    classes = parts["train"].labels.names
    return Material(name="cityscapes", train=train, validation=validation, classes=classes)


def _gta5() -> Material:
    dataset = gta5(miniature("gta5"))["train"]
    pairs = _pairs_of(dataset, 240)[::2]
    return Material(
        name="gta5", train=pairs[:80], validation=pairs[80:], classes=dataset.labels.names
    )


def _carvana() -> Material:
    """Views of one car stay in one part."""
    parts = carvana(miniature("carvana"))
    pairs = _pairs_of(parts["train"], 144)
    return Material(
        name="carvana", train=pairs[:96], validation=pairs[96:], classes=("background", "car")
    )


_REAL = {"camvid": _camvid, "crackforest": _crackforest, "bsds500": _bsds500}
_GENERATED = {
    "textures": _textures,
    "benchmarks": _benchmarks,
    "edges": _edges,
    "driving": _driving,
    "cityscapes": _cityscapes,
    "gta5": _gta5,
    "carvana": _carvana,
}
