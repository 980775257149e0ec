"""Generated photographs of cars in a studio, each from 16 sides, as Carvana takes them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from truemask.miniatures.scenes import (
    Canvas,
    Mask,
    Point,
    Rgb,
    blend,
    ellipse,
    generator,
    layered,
    noise,
    shade,
    textured,
    through_lens,
    to_bytes,
    varied,
)

VIEWS = 16
"""Photographs of each car, all around it."""

# Outlines from the side, from the rear bumper over the roof to the front: metres along the car,
# metres high, and whether the surface from this corner to the next is a window.
_PROFILES: tuple[tuple[tuple[float, float, bool], ...], ...] = (
    ((-2.2, 0.5, False), (-2.15, 1.0, False), (-1.55, 1.05, True), (-1.0, 1.42, False),
     (0.25, 1.44, True), (1.0, 1.0, False), (2.1, 0.8, False), (2.2, 0.45, False)),
    ((-1.95, 0.5, False), (-1.95, 1.0, True), (-1.6, 1.48, False), (0.2, 1.5, True),
     (0.95, 1.04, False), (1.85, 0.86, False), (1.95, 0.45, False)),
    ((-2.25, 0.6, False), (-2.25, 1.15, True), (-2.0, 1.78, False), (0.2, 1.8, True),
     (0.9, 1.2, False), (2.1, 1.08, False), (2.25, 0.55, False)),
    ((-2.5, 0.6, False), (-2.5, 1.1, False), (-0.5, 1.1, True), (-0.35, 1.76, False),
     (0.6, 1.76, True), (1.2, 1.18, False), (2.4, 1.05, False), (2.5, 0.55, False)),
    ((-2.3, 0.5, False), (-2.35, 1.1, True), (-2.2, 1.9, False), (1.0, 1.9, True),
     (1.7, 1.15, False), (2.25, 0.95, False), (2.35, 0.5, False)),
)  # fmt: skip
_PAINTS: tuple[Rgb, ...] = (
    (206, 207, 208), (168, 170, 173), (44, 45, 48), (104, 107, 112), (140, 32, 36), (42, 66, 118),
    (228, 228, 226), (120, 108, 90), (64, 88, 70),
)  # fmt: skip
_GLASS: Rgb = (46, 52, 58)


@dataclass(frozen=True)
class StudioCar:
    """A car, and the studio on the day it was photographed."""

    profile: tuple[tuple[float, float, bool], ...]
    paint: Rgb
    half: float
    tumble: float
    wall: Rgb
    floor: Rgb
    distance: float
    first_angle: float

    @classmethod
    def by_number(cls, seed: int, number: int) -> "StudioCar":
        """The car of a number, the same in all its views."""
        random = generator(seed, "studio car", number)
        stretch = random.uniform(0.93, 1.07, 2)
        profile = _PROFILES[int(random.integers(len(_PROFILES)))]
        return cls(
            profile=tuple((x * stretch[0], y * stretch[1], glass) for x, y, glass in profile),
            paint=varied(_PAINTS[int(random.integers(len(_PAINTS)))], random, 8),
            half=float(random.uniform(0.84, 0.96)),
            tumble=float(random.uniform(0.1, 0.22)),
            wall=varied((206, 206, 204), random, 8),
            floor=varied((150, 150, 150), random, 10),
            distance=float(random.uniform(7.4, 8.4)),
            first_angle=float(random.normal(0, 0.05)),
        )


def photograph_car(
    car: StudioCar, view: int, random: np.random.Generator, *, width: int, height: int
) -> tuple[UInt8[np.ndarray, "H W 3"], Mask]:
    """The photograph of a car from one of the 16 sides, and which pixels show the car."""
    canvas = Canvas(width, height)
    _paint_studio(canvas, car, random)
    camera = _Turntable(car, view, width, height)
    _paint_shadow(canvas, camera)
    canvas.start(1)
    _paint_car(canvas, camera)
    colors = textured(canvas, random, [(0.012, 0.012), (0.015, 0.04)])
    image = through_lens(colors, random, blur=0.5, grain=2.0, exposure=0.03, balance=0.008)
    return image, canvas.classes == 1


class _Turntable:
    """Projects the points of a car that is turned by a view's angle."""

    def __init__(self, car: StudioCar, view: int, width: int, height: int) -> None:
        self.car, self.width, self.height = car, width, height
        angle = 2 * np.pi * view / VIEWS + car.first_angle
        self.cos, self.sin = float(np.cos(angle)), float(np.sin(angle))

    def depth(self, x: float, z: float) -> float:
        """Metres from the camera of a point `x` along the car and `z` to its left."""
        return self.car.distance + x * self.sin + z * self.cos

    def place(self, x: float, y: float, z: float) -> Point:
        """The pixel of a point of the car, `y` metres high."""
        scale = self.width * 1.22 / self.depth(x, z)
        across = x * self.cos - z * self.sin
        return self.width / 2 + across * scale, self.height * 0.4 + (1.55 - y) * scale

    def half(self, y: float) -> float:
        """Half of the car's width at a height."""
        return self.car.half - self.car.tumble * max(0.0, y - 0.95) / 0.5


def _paint_studio(canvas: Canvas, car: StudioCar, random: np.random.Generator) -> None:
    height, width = canvas.height, canvas.width
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    wall, floor = (np.array(color, dtype=np.float32) for color in (car.wall, car.floor))
    share = 1 / (1 + np.exp(-(rows - 0.52) * 28))
    seams = noise(random, 2, width, (2, 7))[:1, :, None] * 3 * (1 - share)
    colors = (wall + (floor - wall) * share) * (1.06 - 0.16 * rows) + seams
    colors = colors * (1 + 0.03 * layered(random, height, width, (width / 3,))[..., None])
    canvas.fill(to_bytes(colors.astype(np.float32)))
    table = ellipse((width / 2, height * 0.8), (width * 0.47, height * 0.17), 40)
    canvas.detail(table, shade(car.floor, 0.86))
    inner = ellipse((width / 2, height * 0.795), (width * 0.455, height * 0.16), 40)
    canvas.detail(inner, shade(car.floor, 0.94))


def _paint_shadow(canvas: Canvas, camera: _Turntable) -> None:
    ends = (camera.car.profile[0][0] * 1.04, camera.car.profile[-1][0] * 1.04)
    for spread, dark in ((1.2, 0.72), (1.0, 0.35)):
        half = camera.car.half * spread
        corners = ((ends[0], -half), (ends[1], -half), (ends[1], half), (ends[0], half))
        color = shade(camera.car.floor, dark)
        canvas.detail([camera.place(x * spread**0.3, 0, z) for x, z in corners], color)


def _paint_car(canvas: Canvas, camera: _Turntable) -> None:
    """The far side, then the surfaces across from the farthest on, then the near side."""
    profile, paint = camera.car.profile, camera.car.paint
    near = -1.0 if camera.cos > 0 else 1.0
    _wheels(canvas, camera, -near)
    _flank(canvas, camera, -near)
    pieces = []
    for (x, y, glass), (end, top, _) in zip(profile, profile[1:], strict=False):
        corners = [(x, y, -camera.half(y)), (end, top, -camera.half(top)),
                   (end, top, camera.half(top)), (x, y, camera.half(y))]  # fmt: skip
        steep = abs(top - y) / (abs(end - x) + abs(top - y))
        color = _GLASS if glass else shade(paint, 1.12 - 0.3 * steep)
        depth = sum(camera.depth(a, c) for a, _, c in corners)
        pieces.append((depth, corners, color))
    for _, corners, color in sorted(pieces, key=lambda piece: -piece[0]):
        canvas.polygon([camera.place(*corner) for corner in corners], color)
    _ends(canvas, camera)
    _flank(canvas, camera, near)
    _wheels(canvas, camera, near)


def _flank(canvas: Canvas, camera: _Turntable, side: float) -> None:
    profile = camera.car.profile
    color = shade(camera.car.paint, 0.9 + 0.08 * side * camera.sin)
    low = [(x, 0.28, side * camera.car.half) for x in (profile[-1][0], profile[0][0])]
    outline = [(x, y, side * camera.half(y)) for x, y, _ in profile] + low
    canvas.polygon([camera.place(*corner) for corner in outline], color)
    roof = max(y for _, y, _ in profile)
    upper = [(x, y) for x, y, _ in profile if y > roof - 0.08]
    belt = roof - 0.46
    left, right = upper[0][0] - 0.25, upper[-1][0] + 0.5
    panes = [
        (left, belt),
        (upper[0][0] + 0.05, roof - 0.09),
        (upper[-1][0], roof - 0.09),
        (right, belt),
    ]
    canvas.detail([camera.place(x, y, side * camera.half(y)) for x, y in panes], _GLASS)
    middle = (left + right) / 2
    post = [
        (middle - 0.05, belt),
        (middle - 0.05, roof - 0.09),
        (middle + 0.05, roof - 0.09),
        (middle + 0.05, belt),
    ]
    canvas.detail([camera.place(x, y, side * camera.half(y)) for x, y in post], color)
    sill = [
        (profile[0][0] * 0.98, 0.3),
        (profile[-1][0] * 0.98, 0.3),
        (profile[-1][0] * 0.98, 0.42),
        (profile[0][0] * 0.98, 0.42),
    ]
    canvas.detail([camera.place(x, y, side * camera.car.half) for x, y in sill], shade(color, 0.55))


def _wheels(canvas: Canvas, camera: _Turntable, side: float) -> None:
    reach = camera.car.profile[-1][0] * 0.64
    circle: Float64[np.ndarray, "corners 2"] = np.array(ellipse((0, 0), (1, 1), 18))
    for x in (-reach, reach):
        for radius, color in ((0.35, (26, 26, 28)), (0.22, (150, 152, 156)), (0.06, (70, 70, 74))):
            points = circle * radius + (x, 0.35)
            corners = [
                camera.place(a, b, side * camera.car.half * 1.01) for a, b in points.tolist()
            ]
            canvas.polygon(corners, color)


def _ends(canvas: Canvas, camera: _Turntable) -> None:
    """Bumper, lamps and plate of the end that faces the camera."""
    front = camera.sin < 0
    x, y, _ = camera.car.profile[-1 if front else 0]
    half = camera.car.half
    lamp: Rgb = (232, 232, 224) if front else (150, 24, 26)

    def patch(left: float, right: float, low: float, high: float, color: Rgb) -> None:
        corners = ((left, low), (right, low), (right, high), (left, high))
        canvas.polygon([camera.place(x, b, a) for a, b in corners], color)

    if abs(camera.sin) < 0.15:
        return
    patch(-half, half, 0.28, y + 0.02, shade(camera.car.paint, 0.82))
    patch(-half * 0.8, half * 0.8, 0.3, 0.4, (40, 40, 42))
    for side in (-1, 1):
        inner, outer = sorted((side * half * 0.62, side * half * 0.97))
        patch(inner, outer, y + 0.04, y + 0.2, blend(lamp, camera.car.paint, 0.15))
    patch(-0.25, 0.25, y - 0.08, y + 0.06, (222, 222, 218))
