"""What streets hold: its kinds, how each looks, and what the driving datasets call it."""

from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np
from jaxtyping import UInt8

from truemask.miniatures.scenes import Rgb


class Kind(IntEnum):
    """What a pixel of a street shows."""

    NOTHING = 0
    SKY = auto()
    BUILDING = auto()
    WALL = auto()
    FENCE = auto()
    GUARD_RAIL = auto()
    BRIDGE = auto()
    TUNNEL = auto()
    ARCHWAY = auto()
    ROAD = auto()
    LANE_MARK = auto()
    CROSSING = auto()
    SHOULDER = auto()
    PARKING = auto()
    RAIL_TRACK = auto()
    SIDEWALK = auto()
    GROUND = auto()
    TERRAIN = auto()
    TREE = auto()
    BUSH = auto()
    POLE = auto()
    POLE_GROUP = auto()
    SIGN = auto()
    TEXT = auto()
    TRAFFIC_LIGHT = auto()
    CONE = auto()
    PARKING_BLOCK = auto()
    STATIC = auto()
    PERSON = auto()
    CHILD = auto()
    RIDER = auto()
    BICYCLE = auto()
    MOTORCYCLE = auto()
    PRAM = auto()
    ANIMAL = auto()
    DYNAMIC = auto()
    CAR = auto()
    SUV = auto()
    TRUCK = auto()
    BUS = auto()
    TRAIN = auto()
    CARAVAN = auto()
    TRAILER = auto()
    EGO = auto()


@dataclass(frozen=True)
class Look:
    """The colours that a kind comes in, and how strong its fine and its coarse texture is."""

    colors: tuple[Rgb, ...]
    fine: float = 0.04
    coarse: float = 0.03


_PAINTS: tuple[Rgb, ...] = (
    (40, 42, 46), (225, 225, 222), (150, 152, 156), (95, 98, 104), (150, 30, 34), (36, 62, 120),
    (30, 84, 60), (190, 160, 100), (200, 190, 60),
)  # fmt: skip
_CLOTHES: tuple[Rgb, ...] = (
    (40, 40, 48), (60, 66, 90), (130, 40, 44), (170, 165, 150), (70, 90, 66), (110, 84, 60),
    (190, 150, 60), (90, 96, 104),
)  # fmt: skip
_FACADES: tuple[Rgb, ...] = (
    (150, 92, 76), (184, 164, 132), (128, 128, 130), (196, 190, 180), (110, 96, 86),
    (168, 140, 110),
    (100, 116, 130), (86, 78, 76),
)  # fmt: skip
_LEAVES: tuple[Rgb, ...] = (
    (58, 84, 42),
    (76, 100, 52),
    (44, 66, 40),
    (104, 104, 54),
    (120, 88, 50),
)
_METAL: tuple[Rgb, ...] = ((110, 112, 114), (76, 78, 80), (150, 148, 144))
_STONES: tuple[Rgb, ...] = ((140, 134, 126), (112, 108, 104), (160, 142, 122))

LOOKS: dict[Kind, Look] = {
    Kind.BUILDING: Look(_FACADES, 0.05, 0.06),
    Kind.WALL: Look(_STONES, 0.09, 0.08),
    Kind.FENCE: Look((*_METAL, (110, 84, 60)), 0.14, 0.04),
    Kind.GUARD_RAIL: Look(((160, 162, 164), (130, 132, 134)), 0.05, 0.03),
    Kind.BRIDGE: Look(_STONES, 0.06, 0.08),
    Kind.TUNNEL: Look(((84, 80, 74), (70, 70, 72)), 0.06, 0.10),
    Kind.ARCHWAY: Look(_FACADES, 0.08, 0.08),
    Kind.ROAD: Look(((92, 92, 96), (108, 104, 100), (74, 75, 80), (122, 120, 118)), 0.07, 0.05),
    Kind.LANE_MARK: Look(((215, 215, 210), (200, 196, 180), (210, 180, 80)), 0.06, 0.08),
    Kind.CROSSING: Look(((210, 210, 205), (190, 188, 180)), 0.06, 0.08),
    Kind.SHOULDER: Look(((130, 118, 100), (112, 108, 104)), 0.12, 0.08),
    Kind.PARKING: Look(((116, 110, 106), (128, 110, 100)), 0.10, 0.05),
    Kind.RAIL_TRACK: Look(((104, 92, 82), (90, 88, 86)), 0.16, 0.06),
    Kind.SIDEWALK: Look(((146, 140, 134), (124, 118, 116), (160, 146, 130), (110, 108, 108)), 0.10,
        0.05),
    Kind.GROUND: Look(((150, 140, 124), (120, 112, 102)), 0.10, 0.10),
    Kind.TERRAIN: Look(((98, 112, 58), (120, 116, 66), (84, 98, 50), (140, 124, 84)), 0.18, 0.14),
    Kind.TREE: Look(_LEAVES, 0.28, 0.22),
    Kind.BUSH: Look(_LEAVES, 0.24, 0.16),
    Kind.POLE: Look(_METAL, 0.03, 0.02),
    Kind.POLE_GROUP: Look(_METAL, 0.03, 0.02),
    Kind.SIGN: Look(((200, 40, 40), (40, 70, 150), (225, 225, 220), (220, 180, 50))),
    Kind.TEXT: Look(((225, 220, 200), (60, 80, 120), (170, 60, 50))),
    Kind.TRAFFIC_LIGHT: Look(((34, 36, 34), (60, 60, 40))),
    Kind.CONE: Look(((225, 96, 36), (214, 120, 60))),
    Kind.PARKING_BLOCK: Look(((170, 166, 160), (150, 146, 60))),
    Kind.STATIC: Look(((80, 96, 84), (120, 100, 80), (64, 66, 72)), 0.08, 0.05),
    Kind.PERSON: Look(_CLOTHES, 0.06, 0.03),
    Kind.CHILD: Look(_CLOTHES, 0.06, 0.03),
    Kind.RIDER: Look(_CLOTHES, 0.06, 0.03),
    Kind.BICYCLE: Look(((40, 42, 46), (120, 40, 40), (60, 80, 110))),
    Kind.MOTORCYCLE: Look(((36, 38, 42), (130, 36, 36), (50, 60, 90))),
    Kind.PRAM: Look(((60, 60, 80), (110, 60, 60), (70, 74, 70))),
    Kind.ANIMAL: Look(((110, 80, 54), (60, 54, 50), (190, 176, 150)), 0.14, 0.05),
    Kind.DYNAMIC: Look(((70, 76, 70), (150, 60, 50), (70, 90, 130)), 0.06, 0.04),
    Kind.CAR: Look(_PAINTS, 0.02, 0.04),
    Kind.SUV: Look(_PAINTS, 0.02, 0.04),
    Kind.TRUCK: Look((*_PAINTS, (206, 200, 190)), 0.03, 0.05),
    Kind.BUS: Look(((190, 60, 50), (210, 170, 60), (60, 90, 150), (215, 212, 206)), 0.02, 0.04),
    Kind.TRAIN: Look(((150, 40, 40), (60, 96, 80), (200, 196, 180)), 0.02, 0.04),
    Kind.CARAVAN: Look(((222, 220, 212), (205, 198, 184)), 0.02, 0.04),
    Kind.TRAILER: Look(((120, 116, 110), (90, 80, 70)), 0.06, 0.05),
    Kind.EGO: Look(((46, 48, 54), (46, 48, 54)), 0.02, 0.03),
}  # fmt: skip

# On these snow lies, rain shines, and the grain of the texture grows towards the camera.
GROUNDS = frozenset(
    {Kind.ROAD, Kind.LANE_MARK, Kind.CROSSING, Kind.SHOULDER, Kind.PARKING, Kind.RAIL_TRACK,
     Kind.SIDEWALK, Kind.GROUND, Kind.TERRAIN}
)  # fmt: skip

# Cityscapes: https://github.com/mcordts/cityscapesScripts, `helpers/labels.py`. By id: name,
# colour, id in training (255: none), and the kinds that are labelled so.
CITYSCAPES: tuple[tuple[str, tuple[int, int, int], int, tuple[Kind, ...]], ...] = (
    ("unlabeled", (0, 0, 0), 255, (Kind.NOTHING, Kind.TEXT)),
    ("ego vehicle", (0, 0, 0), 255, (Kind.EGO,)),
    ("rectification border", (0, 0, 0), 255, ()),
    ("out of roi", (0, 0, 0), 255, ()),
    ("static", (0, 0, 0), 255, (Kind.STATIC, Kind.CONE, Kind.PARKING_BLOCK)),
    ("dynamic", (111, 74, 0), 255, (Kind.DYNAMIC, Kind.PRAM, Kind.ANIMAL)),
    ("ground", (81, 0, 81), 255, (Kind.GROUND, Kind.SHOULDER)),
    ("road", (128, 64, 128), 0, (Kind.ROAD, Kind.LANE_MARK, Kind.CROSSING)),
    ("sidewalk", (244, 35, 232), 1, (Kind.SIDEWALK,)),
    ("parking", (250, 170, 160), 255, (Kind.PARKING,)),
    ("rail track", (230, 150, 140), 255, (Kind.RAIL_TRACK,)),
    ("building", (70, 70, 70), 2, (Kind.BUILDING, Kind.ARCHWAY)),
    ("wall", (102, 102, 156), 3, (Kind.WALL,)),
    ("fence", (190, 153, 153), 4, (Kind.FENCE,)),
    ("guard rail", (180, 165, 180), 255, (Kind.GUARD_RAIL,)),
    ("bridge", (150, 100, 100), 255, (Kind.BRIDGE,)),
    ("tunnel", (150, 120, 90), 255, (Kind.TUNNEL,)),
    ("pole", (153, 153, 153), 5, (Kind.POLE,)),
    ("polegroup", (153, 153, 153), 255, (Kind.POLE_GROUP,)),
    ("traffic light", (250, 170, 30), 6, (Kind.TRAFFIC_LIGHT,)),
    ("traffic sign", (220, 220, 0), 7, (Kind.SIGN,)),
    ("vegetation", (107, 142, 35), 8, (Kind.TREE, Kind.BUSH)),
    ("terrain", (152, 251, 152), 9, (Kind.TERRAIN,)),
    ("sky", (70, 130, 180), 10, (Kind.SKY,)),
    ("person", (220, 20, 60), 11, (Kind.PERSON, Kind.CHILD)),
    ("rider", (255, 0, 0), 12, (Kind.RIDER,)),
    ("car", (0, 0, 142), 13, (Kind.CAR, Kind.SUV)),
    ("truck", (0, 0, 70), 14, (Kind.TRUCK,)),
    ("bus", (0, 60, 100), 15, (Kind.BUS,)),
    ("caravan", (0, 0, 90), 255, (Kind.CARAVAN,)),
    ("trailer", (0, 0, 110), 255, (Kind.TRAILER,)),
    ("train", (0, 80, 100), 16, (Kind.TRAIN,)),
    ("motorcycle", (0, 0, 230), 17, (Kind.MOTORCYCLE,)),
    ("bicycle", (119, 11, 32), 18, (Kind.BICYCLE,)),
)

# CamVid: http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/, `label_colors.txt`.
CAMVID_32: tuple[tuple[str, tuple[int, int, int], tuple[Kind, ...]], ...] = (
    ("Animal", (64, 128, 64), (Kind.ANIMAL,)),
    ("Archway", (192, 0, 128), (Kind.ARCHWAY,)),
    ("Bicyclist", (0, 128, 192), (Kind.RIDER, Kind.BICYCLE)),
    ("Bridge", (0, 128, 64), (Kind.BRIDGE,)),
    ("Building", (128, 0, 0), (Kind.BUILDING,)),
    ("Car", (64, 0, 128), (Kind.CAR,)),
    ("CartLuggagePram", (64, 0, 192), (Kind.PRAM,)),
    ("Child", (192, 128, 64), (Kind.CHILD,)),
    ("Column_Pole", (192, 192, 128), (Kind.POLE, Kind.POLE_GROUP)),
    ("Fence", (64, 64, 128), (Kind.FENCE, Kind.GUARD_RAIL)),
    ("LaneMkgsDriv", (128, 0, 192), (Kind.LANE_MARK,)),
    ("LaneMkgsNonDriv", (192, 0, 64), (Kind.CROSSING,)),
    ("Misc_Text", (128, 128, 64), (Kind.TEXT,)),
    ("MotorcycleScooter", (192, 0, 192), (Kind.MOTORCYCLE,)),
    ("OtherMoving", (128, 64, 64), (Kind.DYNAMIC, Kind.CARAVAN, Kind.TRAILER)),
    ("ParkingBlock", (64, 192, 128), (Kind.PARKING_BLOCK,)),
    ("Pedestrian", (64, 64, 0), (Kind.PERSON,)),
    ("Road", (128, 64, 128), (Kind.ROAD, Kind.PARKING, Kind.RAIL_TRACK)),
    ("RoadShoulder", (128, 128, 192), (Kind.SHOULDER,)),
    ("Sidewalk", (0, 0, 192), (Kind.SIDEWALK, Kind.GROUND)),
    ("SignSymbol", (192, 128, 128), (Kind.SIGN,)),
    ("Sky", (128, 128, 128), (Kind.SKY,)),
    ("SUVPickupTruck", (64, 128, 192), (Kind.SUV,)),
    ("TrafficCone", (0, 0, 64), (Kind.CONE,)),
    ("TrafficLight", (0, 64, 64), (Kind.TRAFFIC_LIGHT,)),
    ("Train", (192, 64, 128), (Kind.TRAIN,)),
    ("Tree", (128, 128, 0), (Kind.TREE,)),
    ("Truck_Bus", (192, 128, 192), (Kind.TRUCK, Kind.BUS)),
    ("Tunnel", (64, 0, 64), (Kind.TUNNEL,)),
    ("VegetationMisc", (192, 192, 0), (Kind.BUSH, Kind.TERRAIN)),
    ("Void", (0, 0, 0), (Kind.NOTHING, Kind.STATIC, Kind.EGO)),
    ("Wall", (64, 192, 0), (Kind.WALL,)),
)

# The grouping of the SegNet papers: classes 0 to 10, and void, 11.
CAMVID_11: tuple[tuple[str, tuple[int, int, int], tuple[str, ...]], ...] = (
    ("sky", (128, 128, 128), ("Sky",)),
    ("building", (128, 0, 0), ("Building", "Wall", "Tunnel", "Archway", "Bridge")),
    ("pole", (192, 192, 128), ("Column_Pole", "TrafficCone")),
    ("road", (128, 64, 128), ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv")),
    ("pavement", (60, 40, 222), ("Sidewalk", "ParkingBlock", "RoadShoulder")),
    ("tree", (128, 128, 0), ("Tree", "VegetationMisc")),
    ("sign", (192, 128, 128), ("SignSymbol", "Misc_Text", "TrafficLight")),
    ("fence", (64, 64, 128), ("Fence",)),
    ("car", (64, 0, 128), ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving")),
    ("pedestrian", (64, 64, 0), ("Pedestrian", "Child", "CartLuggagePram", "Animal")),
    ("bicyclist", (0, 128, 192), ("Bicyclist", "MotorcycleScooter")),
)


def _table(ids: dict[Kind, int], other: int) -> UInt8[np.ndarray, " kinds"]:
    return np.array([ids.get(kind, other) for kind in Kind], dtype=np.uint8)


def cityscapes_ids() -> UInt8[np.ndarray, " kinds"]:
    """The label id of Cityscapes by kind."""
    return _table({kind: i for i, row in enumerate(CITYSCAPES) for kind in row[3]}, 0)


def train_ids() -> UInt8[np.ndarray, " kinds"]:
    """The id in training of Cityscapes and BDD100K by kind, 255 for none."""
    return _table({kind: row[2] for row in CITYSCAPES for kind in row[3]}, 255)


def camvid_32_ids() -> UInt8[np.ndarray, " kinds"]:
    """The place in `CAMVID_32` by kind."""
    return _table({kind: i for i, row in enumerate(CAMVID_32) for kind in row[2]}, 30)


def camvid_11_ids() -> UInt8[np.ndarray, " kinds"]:
    """The id of the 11 classes by kind, 11 for void."""
    group = {name: i for i, row in enumerate(CAMVID_11) for name in row[2]}
    return _table({kind: group.get(row[0], 11) for row in CAMVID_32 for kind in row[2]}, 11)
