"""Generated copies of CamVid, of 11 and of 32 classes: drives, frame by frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from truemask.files import write_json, write_text
from truemask.miniatures.files import save_mask, save_photo
from truemask.miniatures.kinds import (
    CAMVID_11,
    CAMVID_32,
    Kind,
    camvid_11_ids,
    camvid_32_ids,
)
from truemask.miniatures.scenes import Canvas, generator
from truemask.miniatures.street import take_picture
from truemask.miniatures.view import Light
from truemask.miniatures.world import PLACES, build_world

# Frames from one cut to the next; the street behind a cut is another.
_SHOT = 12


@dataclass(frozen=True)
class _Drive:
    """A stretch of a drive: its part, its frames' names, and metres from one to the next."""

    part: str
    name: str
    first: int
    step: int
    metres: float
    place: str
    light: Light


# Of every eight frames, in turn.
_DRIVES = (
    _Drive("train", "0001TP_{:06d}", 6690, 30, 1.2, "city street", Light("clear", "dawn/dusk")),
    _Drive("train", "0006R0_f{:05d}", 930, 30, 1.2, "residential", Light("overcast")),
    _Drive("train", "0016E5_{:05d}", 390, 30, 1.2, "city street", Light("clear")),
    _Drive("val", "0016E5_{:05d}", 7959, 2, 0.3, "city street", Light("clear")),
    _Drive("test", "Seq05VD_f{:05d}", 0, 30, 1.2, "city street", Light("partly cloudy")),
)
_ORDER = ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1), (1, 1), (2, 1))

_EXTRAS_11 = (Kind.FENCE, Kind.BICYCLE, Kind.SIGN, Kind.PERSON, Kind.STATIC)
_EXTRAS_32 = (
    Kind.ANIMAL, Kind.ARCHWAY, Kind.CHILD, Kind.SHOULDER, Kind.BRIDGE, Kind.PRAM, Kind.TEXT,
    Kind.CROSSING, Kind.MOTORCYCLE, Kind.DYNAMIC, Kind.PARKING_BLOCK, Kind.TRAIN, Kind.SUV,
    Kind.CONE, Kind.TRAFFIC_LIGHT, Kind.FENCE, Kind.TUNNEL, Kind.BUSH, Kind.WALL, Kind.TRUCK,
    Kind.BICYCLE, Kind.SIGN, Kind.PERSON, Kind.CAR, Kind.STATIC,
)  # fmt: skip


@dataclass(frozen=True)
class _Frame:
    part: str
    name: str
    image: UInt8[np.ndarray, "H W 3"]
    canvas: Canvas


def _frame(number: int, seed: int, dataset: str, extras: Sequence[Kind], each: int) -> _Frame:
    """The frame of a number; every shot shows `each` of the extras."""
    which, offset = _ORDER[number % len(_ORDER)]
    drive = _DRIVES[which]
    at_once = sum(drive_number == which for drive_number, _ in _ORDER)
    at_once = sum(drive_number == which for drive_number, _ in _ORDER)
    taken = number // len(_ORDER) * at_once + offset
    shot, place = taken // _SHOT, taken % _SHOT
    # The validation clip is of the same street as the drive it was cut from, further on.
    street = 2 if drive.part == "val" else which
    start = (which + len(_DRIVES) * shot) * each
    world = build_world(
        generator(seed, dataset, "street", street, shot),
        PLACES[drive.place],
        drive.light,
        extras=[extras[(start + i) % len(extras)] for i in range(each)],
        spread=12.0,
    )
    image, canvas = take_picture(
        world,
        generator(seed, dataset, "frame", number),
        width=240,
        height=180,
        travel=place * drive.metres + (2.0 if drive.part == "val" else 0.0),
    )
    return _Frame(drive.part, drive.name.format(drive.first + drive.step * taken), image, canvas)


def write_camvid(root: Path, images: int, seed: int) -> Iterator[None]:
    """CamVid with 11 classes, in `train/`, `val/` and `test/`, as the SegNet papers split it."""
    table = camvid_11_ids()
    for number in range(images):
        frame = _frame(number, seed, "camvid", _EXTRAS_11, 5)
        save_photo(root / frame.part / "images" / f"{frame.name}.jpg", frame.image)
        save_mask(root / frame.part / "masks" / f"{frame.name}.png", table[frame.canvas.classes])
        yield
    classes = [{"id": i, "name": row[0], "color": list(row[1])} for i, row in enumerate(CAMVID_11)]
    ignored = {"ignore_id": 11, "ignore_name": "void", "ignore_color": [0, 0, 0]}
    write_json(root / "classes.json", {"classes": classes, **ignored})


def write_camvid32(root: Path, images: int, seed: int) -> Iterator[None]:
    """CamVid as it was published: all frames in one folder, labels in 32 colours."""
    table = camvid_32_ids()
    palette = np.array([row[1] for row in CAMVID_32], dtype=np.uint8)
    for number in range(images):
        frame = _frame(number, seed, "camvid32", _EXTRAS_32, 5)
        colors = palette[table[frame.canvas.classes]]
        save_photo(root / "701_StillsRaw_full" / f"{frame.name}.png", frame.image)
        save_mask(root / "LabeledApproved_full" / f"{frame.name}_L.png", colors)
        yield
    lines = [f"{red} {green} {blue}\t{name}\n" for name, (red, green, blue), _ in CAMVID_32]
    write_text(root / "label_colors.txt", "".join(lines))
