"""Cityscapes: streets of 50 cities, finely labelled; and its table of labels, which others share.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from truemask.datasets.lists import require_folder
from truemask.datasets.pairing import Pair
from truemask.datasets.part_folders import own_parts, pairs_in
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX, Color, LabelMap

SOURCE = (
    "https://www.cityscapes-dataset.com/downloads/ (free registration; "
    "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip)"
)
LAYOUT = (
    "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png + gtFine/{train,val}/CITY/*_gtFine_labelIds.png"
)


class CityscapesLabel(NamedTuple):
    """A row of the official table (`cityscapesscripts/helpers/labels.py`).

    Attributes:
        name: of the label.
        id: value in `*_labelIds.png`; -1 is drawn nowhere.
        train_id: class of the benchmark, 0 to 18, or 255.
        color: in `*_color.png`.
    """

    name: str
    id: int
    train_id: int
    color: Color


LABELS: tuple[CityscapesLabel, ...] = tuple(
    CityscapesLabel(*row)
    for row in (
        ("unlabeled", 0, 255, (0, 0, 0)),
        ("ego vehicle", 1, 255, (0, 0, 0)),
        ("rectification border", 2, 255, (0, 0, 0)),
        ("out of roi", 3, 255, (0, 0, 0)),
        ("static", 4, 255, (0, 0, 0)),
        ("dynamic", 5, 255, (111, 74, 0)),
        ("ground", 6, 255, (81, 0, 81)),
        ("road", 7, 0, (128, 64, 128)),
        ("sidewalk", 8, 1, (244, 35, 232)),
        ("parking", 9, 255, (250, 170, 160)),
        ("rail track", 10, 255, (230, 150, 140)),
        ("building", 11, 2, (70, 70, 70)),
        ("wall", 12, 3, (102, 102, 156)),
        ("fence", 13, 4, (190, 153, 153)),
        ("guard rail", 14, 255, (180, 165, 180)),
        ("bridge", 15, 255, (150, 100, 100)),
        ("tunnel", 16, 255, (150, 120, 90)),
        ("pole", 17, 5, (153, 153, 153)),
        ("polegroup", 18, 255, (153, 153, 153)),
        ("traffic light", 19, 6, (250, 170, 30)),
        ("traffic sign", 20, 7, (220, 220, 0)),
        ("vegetation", 21, 8, (107, 142, 35)),
        ("terrain", 22, 9, (152, 251, 152)),
        ("sky", 23, 10, (70, 130, 180)),
        ("person", 24, 11, (220, 20, 60)),
        ("rider", 25, 12, (255, 0, 0)),
        ("car", 26, 13, (0, 0, 142)),
        ("truck", 27, 14, (0, 0, 70)),
        ("bus", 28, 15, (0, 60, 100)),
        ("caravan", 29, 255, (0, 0, 90)),
        ("trailer", 30, 255, (0, 0, 110)),
        ("train", 31, 16, (0, 80, 100)),
        ("motorcycle", 32, 17, (0, 0, 230)),
        ("bicycle", 33, 18, (119, 11, 32)),
        ("license plate", -1, 255, (0, 0, 142)),
    )
)

TRAIN_LABELS = tuple(
    sorted((row for row in LABELS if row.train_id != 255), key=lambda r: r.train_id)
)
"""The 19 classes of the benchmark, in the order of their ids in training."""

CLASSES = LabelMap(
    names=tuple(row.name for row in TRAIN_LABELS),
    colors=tuple(row.color for row in TRAIN_LABELS),
    values={row.train_id: row.train_id for row in TRAIN_LABELS} | {255: IGNORE_INDEX},
    ignore_name="void",
)
"""Those 19, for masks that hold their ids in training."""

VISUAL_LABELS = tuple(row for row in LABELS if row.id >= 4)
"""The paper's 30 visual classes, in the order of their ids."""

_EGO_VEHICLE = 1


def cityscapes(
    root: Path | str,
    *,
    classes: Literal[19, 30] = 19,
    ego_vehicle: Literal["ignored", "static"] = "ignored",
) -> Parts:
    """Open Cityscapes' fine annotations.

    The masks of the test images are withheld, so `val` is the validation part and there is no test
    part. Each sample has the attribute `city`; no city is in two parts.

    Args:
        root: holds `leftImg8bit/` and `gtFine/`.
        classes: 19, those of the benchmark, or 30, all visual classes of the paper; every other
            label is ignored.
        ego_vehicle: what becomes of the car's own bonnet: it is ignored, or with 30 classes belongs
            to "static". As it is at the same place in every image, a model that is taught it will
            see a bonnet in photos that have none.

    Raises:
        UsageError: the folder does not look like Cityscapes, files are missing, or an option is
            out of range.
    """
    labels = _label_map(classes, ego_vehicle)
    root = Path(root)
    for name in ("leftImg8bit", "gtFine"):
        require_folder(root / name, dataset="Cityscapes", source=SOURCE, layout=LAYOUT)
    pairs = [
        pair
        for folder, part in (("train", "train"), ("val", "validation"))
        for city in _cities(root, folder)
        for pair in _pairs_of_city(root, folder, part, city)
    ]
    notes = []
    if (root / "leftImg8bit" / "test").is_dir():
        notes.append("Cityscapes withholds the masks of its test images: they were left out.")
    return own_parts(
        pairs, labels, root=root, layout=LAYOUT, how="are Cityscapes' own", notes=notes
    )


def _label_map(classes: int, ego_vehicle: str) -> LabelMap:
    if classes not in (19, 30):
        raise UsageError(f"classes is {classes!r}; Cityscapes has 19 or 30")
    if ego_vehicle not in ("ignored", "static"):
        raise UsageError(f"ego_vehicle is {ego_vehicle!r}; allowed are ignored and static")
    if ego_vehicle == "static" and classes == 19:
        raise UsageError(
            "ego_vehicle=static needs classes=30: the 19 classes of the benchmark have no static"
        )
    rows = TRAIN_LABELS if classes == 19 else VISUAL_LABELS
    ids = {row.id: place for place, row in enumerate(rows)}
    values = {row.id: ids.get(row.id, IGNORE_INDEX) for row in LABELS if row.id >= 0}
    if ego_vehicle == "static":
        values[_EGO_VEHICLE] = [row.name for row in rows].index("static")
    # A license plate, -1, is 255 in 8 bits.
    return LabelMap(
        names=tuple(row.name for row in rows),
        colors=tuple(row.color for row in rows),
        values=values | {255: IGNORE_INDEX},
        ignore_name="void",
    )


def _cities(root: Path, folder: str) -> list[str]:
    """The cities of a part, by name; also those that only one of image and mask are of."""
    places = [root / kind / folder for kind in ("leftImg8bit", "gtFine")]
    found = {path.name for place in places if place.is_dir() for path in place.iterdir()}
    return sorted(name for name in found if any((place / name).is_dir() for place in places))


def _pairs_of_city(root: Path, folder: str, part: str, city: str) -> list[Pair]:
    return pairs_in(
        root / "leftImg8bit" / folder / city,
        root / "gtFine" / folder / city,
        part=part,
        image_endings=("_leftImg8bit.png",),
        mask_ending="_gtFine_labelIds.png",
        attributes=lambda _: {"city": city},
    )
