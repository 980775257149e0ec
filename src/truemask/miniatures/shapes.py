"""The typical shapes of the 20 object classes of PASCAL VOC, as polygons in a box from -1 to 1."""

from dataclasses import dataclass
from typing import Literal

from truemask.miniatures.scenes import Point, Rgb, ellipse

Role = Literal["main", "second", "dark", "light", "glass"]


@dataclass(frozen=True)
class Part:
    """A polygon of a shape, or with a width a line; y points upwards."""

    role: Role
    points: tuple[Point, ...]
    width: float = 0.0


@dataclass(frozen=True)
class Shape:
    """How the objects of a class look.

    Attributes:
        parts: painted in this order.
        colors: the main colours that occur.
        scene: the surroundings in which it is mostly seen.
        aspect: width over height.
        size: usual height over that of the picture.
        fine: strength of its fine texture.
        coarse: strength of its coarse texture.
    """

    parts: tuple[Part, ...]
    colors: tuple[Rgb, ...]
    scene: Literal["sky", "water", "grass", "road", "room"]
    aspect: float = 1.0
    size: float = 0.6
    fine: float = 0.05
    coarse: float = 0.05


def _oval(role: Role, x: float, y: float, across: float, up: float, turn: float = 0.0) -> Part:
    return Part(role, tuple(ellipse((x, y), (across, up), 14, turn)))


def _box(role: Role, left: float, bottom: float, right: float, top: float) -> Part:
    return Part(role, ((left, bottom), (right, bottom), (right, top), (left, top)))


def _area(role: Role, *points: Point) -> Part:
    return Part(role, points)


def _line(role: Role, width: float, *points: Point) -> Part:
    return Part(role, points, width)


def _ring(x: float, y: float, radius: float, width: float) -> Part:
    ring = ellipse((x, y), (radius, radius), 16)
    return Part("dark", (*ring, ring[0]), width)


def _legs(role: Role, low: float, high: float, *places: float) -> tuple[Part, ...]:
    return tuple(_box(role, x - 0.07, low, x + 0.07, high) for x in places)


_PAINT: tuple[Rgb, ...] = (
    (170, 40, 40), (50, 70, 130), (200, 200, 196), (60, 62, 66), (200, 170, 60), (60, 110, 80),
)  # fmt: skip
_FUR: tuple[Rgb, ...] = (
    (120, 84, 54), (60, 56, 54), (196, 176, 146), (160, 116, 70), (210, 206, 198), (110, 106, 104),
)  # fmt: skip
_WOOD: tuple[Rgb, ...] = ((126, 88, 56), (84, 60, 44), (176, 136, 92), (70, 70, 74))
_CLOTH: tuple[Rgb, ...] = (
    (120, 50, 54), (70, 84, 120), (150, 138, 120), (60, 62, 60), (190, 160, 110), (90, 110, 80),
)  # fmt: skip

SHAPES: dict[str, Shape] = {
    "aeroplane": Shape(
        (
            _area("second", (-0.9, 0.05), (-1.0, 0.75), (-0.7, 0.75), (-0.5, 0.1)),
            _oval("main", 0, 0, 1.0, 0.24),
            _area("second", (0.15, 0), (-0.55, -0.75), (-0.25, -0.75), (0.5, 0)),
            _line("glass", 0.07, (-0.5, 0.07), (0.7, 0.07)),
        ),
        ((206, 208, 212), (150, 156, 166), (190, 196, 214)),
        "sky", 2.4, 0.34, 0.02, 0.05,
    ),
    "bicycle": Shape(
        (
            _ring(-0.58, -0.45, 0.42, 0.13), _ring(0.58, -0.45, 0.42, 0.13),
            _line("main", 0.14, (-0.58, -0.45), (-0.2, 0.4), (0.42, 0.4), (0.58, -0.45)),
            _line("main", 0.14, (-0.2, 0.4), (0.05, -0.45), (0.42, 0.4), (0.4, 0.75)),
            _box("dark", -0.35, 0.42, -0.05, 0.56), _box("dark", 0.25, 0.7, 0.6, 0.82),
        ),
        _PAINT, "road", 1.5, 0.55, 0.02, 0.03,
    ),
    "bird": Shape(
        (
            _area("second", (-0.4, 0), (-1.0, 0.1), (-0.95, -0.25), (-0.4, -0.3)),
            _line("dark", 0.08, (-0.05, -0.3), (-0.05, -0.95)),
            _line("dark", 0.08, (0.15, -0.3), (0.18, -0.95)),
            _oval("main", 0, -0.05, 0.58, 0.42, 0.25), _oval("main", 0.48, 0.5, 0.26, 0.3),
            _area("light", (0.68, 0.55), (1.0, 0.44), (0.68, 0.36)),
            _oval("second", -0.15, 0, 0.42, 0.22, 0.3), _oval("dark", 0.55, 0.58, 0.05, 0.07),
        ),
        ((70, 80, 110), (120, 70, 50), (190, 180, 160), (70, 70, 66)), "sky", 1.2, 0.42, 0.1, 0.06,
    ),
    "boat": Shape(
        (
            _line("dark", 0.07, (0.05, -0.4), (0.05, 1.0)),
            _area("light", (0.1, 0.95), (0.1, -0.25), (0.8, -0.25)),
            _area("light", (0, 0.8), (0, -0.25), (-0.5, -0.25)),
            _area("main", (-1.0, -0.35), (1.0, -0.35), (0.7, -0.95), (-0.75, -0.95)),
            _area("second", (-1.0, -0.35), (1.0, -0.35), (0.94, -0.48), (-0.95, -0.48)),
        ),
        ((220, 220, 214), (70, 80, 110), (140, 60, 50), (110, 84, 60)), "water", 1.2, 0.62, 0.03,
        0.04,
    ),
    "bottle": Shape(
        (
            _area("main", (-0.8, -1), (0.8, -1), (0.8, 0.2), (0.3, 0.55), (0.3, 0.95), (-0.3, 0.95),
                  (-0.3, 0.55), (-0.8, 0.2)),
            _box("light", -0.8, -0.65, 0.8, -0.05), _box("second", -0.32, 0.84, 0.32, 1.0),
        ),
        ((46, 76, 50), (100, 60, 36), (150, 170, 176), (60, 40, 60)), "room", 0.36, 0.6, 0.02, 0.06,
    ),
    "bus": Shape(
        (
            _box("dark", -0.75, -1, -0.45, -0.6), _box("dark", 0.45, -1, 0.75, -0.6),
            _box("main", -1, -0.8, 1, 0.95), _box("glass", -0.94, 0.1, 0.62, 0.75),
            _box("glass", 0.72, -0.3, 0.97, 0.75), _box("second", -1, -0.25, 0.7, -0.05),
            *(_box("main", x - 0.03, 0.1, x + 0.03, 0.75) for x in (-0.6, -0.25, 0.1, 0.4)),
        ),
        ((190, 60, 50), (200, 170, 60), (60, 90, 150), (210, 208, 200)), "road", 1.9, 0.55, 0.02,
        0.04,
    ),
    "car": Shape(
        (
            _area("main", (-1, -0.6), (1, -0.6), (1, -0.05), (0.6, 0.15), (-0.9, 0.2), (-1, 0)),
            _area("main", (-0.75, 0.1), (-0.5, 0.75), (0.25, 0.75), (0.65, 0.1)),
            _area("glass", (-0.6, 0.18), (-0.42, 0.64), (0.2, 0.64), (0.5, 0.18)),
            _box("main", -0.14, 0.1, -0.05, 0.7), _oval("dark", -0.58, -0.6, 0.2, 0.36),
            _oval("dark", 0.58, -0.6, 0.2, 0.36), _oval("light", -0.58, -0.6, 0.09, 0.16),
            _oval("light", 0.58, -0.6, 0.09, 0.16), _box("light", 0.88, -0.2, 1, -0.05),
        ),
        _PAINT, "road", 1.9, 0.42, 0.02, 0.05,
    ),
    "cat": Shape(
        (
            _line("main", 0.16, (0.4, -0.8), (0.9, -0.6), (0.95, 0)),
            _oval("main", 0.05, -0.4, 0.5, 0.6), *_legs("main", -1, -0.3, -0.3, -0.1),
            _area("main", (-0.62, 0.5), (-0.56, 1.0), (-0.24, 0.75)),
            _area("main", (0.12, 0.5), (0.06, 1.0), (-0.22, 0.75)),
            _oval("main", -0.24, 0.45, 0.4, 0.36), _oval("light", -0.26, 0.3, 0.17, 0.12),
            _oval("dark", -0.4, 0.52, 0.06, 0.08), _oval("dark", -0.12, 0.52, 0.06, 0.08),
        ),
        _FUR, "room", 0.85, 0.62, 0.14, 0.1,
    ),
    "chair": Shape(
        (
            *_legs("second", -1, -0.1, -0.6, 0.6), *_legs("second", -0.8, -0.1, -0.35, 0.38),
            _box("main", -0.66, 0, -0.52, 1.0), _box("main", 0.3, 0, 0.44, 1.0),
            _box("main", -0.66, 0.45, 0.44, 0.95),
            _area("main", (-0.7, 0.02), (0.5, 0.02), (0.75, -0.2), (-0.72, -0.2)),
        ),
        _WOOD, "room", 0.75, 0.6, 0.06, 0.05,
    ),
    "cow": Shape(
        (
            *_legs("main", -1, -0.1, -0.6, -0.4, 0.35, 0.52), _box("main", -0.78, -0.35, 0.62, 0.5),
            _oval("second", -0.3, 0.15, 0.28, 0.22), _oval("second", 0.25, 0.2, 0.2, 0.22),
            _line("dark", 0.07, (-0.8, 0.4), (-0.9, -0.4)),
            _area("main", (0.5, 0.5), (0.7, 0.75), (1.0, 0.3), (0.92, 0.12), (0.6, 0.1)),
            _line("light", 0.08, (0.62, 0.72), (0.55, 0.98)),
            _line("light", 0.08, (0.74, 0.7), (0.86, 0.95)),
        ),
        ((90, 60, 44), (210, 204, 196), (50, 46, 46), (150, 96, 60)), "grass", 1.4, 0.5, 0.06, 0.05,
    ),
    "diningtable": Shape(
        (
            *_legs("second", -1, 0.2, -0.85, 0.85), *_legs("second", -0.5, 0.2, -0.55, 0.55),
            _area("main", (-1, 0.15), (1, 0.15), (0.65, 0.75), (-0.65, 0.75)),
            _box("second", -1, 0, 1, 0.15),
            _oval("light", -0.4, 0.45, 0.2, 0.1), _oval("light", 0.35, 0.5, 0.2, 0.1),
            _oval("light", 0.05, 0.3, 0.18, 0.09),
        ),
        _WOOD, "room", 1.6, 0.5, 0.05, 0.08,
    ),
    "dog": Shape(
        (
            *_legs("main", -1, -0.1, -0.55, -0.38, 0.25, 0.42),
            _line("main", 0.14, (-0.62, 0.1), (-0.92, 0.6)), _oval("main", -0.08, 0, 0.62, 0.34),
            _area("main", (0.2, 0.1), (0.55, 0), (0.7, 0.6), (0.35, 0.7)),
            _oval("main", 0.5, 0.62, 0.3, 0.28),
            _oval("main", 0.78, 0.5, 0.22, 0.14), _oval("second", 0.34, 0.5, 0.12, 0.32),
            _oval("dark", 0.95, 0.54, 0.06, 0.07), _oval("dark", 0.6, 0.7, 0.05, 0.06),
        ),
        _FUR, "grass", 1.15, 0.55, 0.12, 0.08,
    ),
    "horse": Shape(
        (
            *_legs("main", -1, 0, -0.52, -0.36, 0.28, 0.42),
            _line("dark", 0.14, (-0.6, 0.2), (-0.85, -0.4)),
            _oval("main", -0.08, 0.08, 0.6, 0.3),
            _area("main", (0.2, 0.1), (0.5, 0), (0.72, 0.75), (0.48, 0.85)),
            _line("dark", 0.12, (0.22, 0.35), (0.48, 0.9)),
            _area("main", (0.45, 0.95), (0.66, 0.9), (1.0, 0.45), (0.88, 0.36), (0.5, 0.62)),
        ),
        ((96, 58, 38), (60, 48, 42), (190, 180, 168), (140, 90, 54)), "grass", 1.1, 0.66, 0.03,
        0.05,
    ),
    "motorbike": Shape(
        (
            _ring(-0.62, -0.5, 0.36, 0.22), _ring(0.62, -0.5, 0.36, 0.22),
            _area("main", (-0.75, 0.2), (-0.2, 0.1), (0.3, 0.45), (0.5, 0.2), (0.3, -0.45),
                (-0.35, -0.5)),
            _box("dark", -0.7, 0.2, -0.1, 0.36), _oval("light", 0, -0.3, 0.24, 0.2),
            _line("dark", 0.12, (0.3, 0.8), (0.42, 0.6), (0.62, -0.45)),
        ),
        _PAINT, "road", 1.45, 0.55, 0.03, 0.05,
    ),
    "person": Shape(
        (
            _area("second", (-0.55, -1), (-0.15, -1), (0, -0.05), (-0.5, 0)),
            _area("second", (0.2, -1), (0.6, -1), (0.5, 0), (0, -0.05)),
            _area("main", (-0.6, -0.1), (0.6, -0.1), (0.7, 0.62), (-0.7, 0.62)),
            _area("main", (-0.7, 0.62), (-1, -0.1), (-0.78, -0.14), (-0.5, 0.4)),
            _area("main", (0.7, 0.62), (1, -0.05), (0.78, -0.1), (0.5, 0.4)),
            _oval("light", 0, 0.8, 0.36, 0.19), _oval("dark", 0, 0.9, 0.36, 0.1),
        ),
        _CLOTH, "road", 0.42, 0.72, 0.06, 0.04,
    ),
    "pottedplant": Shape(
        (
            _area("second", (-0.5, -0.25), (0.5, -0.25), (0.36, -1), (-0.36, -1)),
            *(_oval("main", x, y, 0.2, 0.46, turn) for x, y, turn in
              ((-0.5, 0.2, 0.9), (0.5, 0.2, -0.9), (-0.25, 0.45, 0.4), (0.28, 0.45, -0.4),
                  (0, 0.5, 0))),
            _oval("main", 0, 0, 0.5, 0.3),
        ),
        ((60, 96, 48), (84, 116, 60), (50, 78, 50)), "room", 0.75, 0.6, 0.14, 0.12,
    ),
    "sheep": Shape(
        (
            *_legs("dark", -1, -0.2, -0.45, -0.25, 0.25, 0.42),
            *(_oval("main", x, y, 0.36, 0.38) for x, y in
              ((-0.5, 0), (-0.2, 0.25), (0.15, 0.25), (0.42, 0.05), (0.1, -0.15), (-0.3, -0.2))),
            _oval("dark", 0.74, 0.3, 0.2, 0.28), _oval("main", 0.66, 0.52, 0.2, 0.16),
        ),
        ((206, 200, 186), (180, 168, 150), (224, 220, 212)), "grass", 1.25, 0.46, 0.1, 0.14,
    ),
    "sofa": Shape(
        (
            _box("main", -0.9, -0.4, 0.9, 0.8), _box("second", -0.72, -0.55, 0, 0.05),
            _box("second", 0.03, -0.55, 0.72, 0.05),
            _box("main", -0.9, -0.85, 0.9, -0.5), _box("main", -1, -0.9, -0.7, 0.3),
            _box("main", 0.7, -0.9, 1, 0.3),
        ),
        _CLOTH, "room", 1.9, 0.5, 0.05, 0.07,
    ),
    "train": Shape(
        (
            _area("main", (-1, 0.55), (0.45, 0.95), (0.45, -0.95), (-1, -0.25)),
            _box("second", 0.4, -0.95, 1, 0.95),
            _area("glass", (-0.98, 0.4), (0.35, 0.65), (0.35, 0.1), (-0.98, 0.15)),
            _box("glass", 0.48, 0.15, 0.92, 0.75),
            _oval("light", 0.52, -0.5, 0.06, 0.1), _oval("light", 0.88, -0.5, 0.06, 0.1),
        ),
        ((150, 40, 40), (60, 96, 80), (70, 80, 120), (190, 150, 60)), "road", 1.7, 0.55, 0.03, 0.05,
    ),
    "tvmonitor": Shape(
        (
            _box("second", -0.3, -1, 0.3, -0.85), _box("second", -0.1, -0.9, 0.1, -0.6),
            _box("main", -1, -0.7, 1, 1),
            _box("glass", -0.88, -0.55, 0.88, 0.88),
            _area("light", (-0.8, 0.8), (-0.3, 0.8), (-0.6, 0), (-0.8, 0)),
        ),
        ((40, 40, 44), (150, 150, 152), (70, 70, 72)), "room", 1.25, 0.48, 0.02, 0.04,
    ),
}  # fmt: skip
