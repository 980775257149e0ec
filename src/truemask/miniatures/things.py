"""Drawing the small things of a generated street: plants, poles, signs, people, bicycles."""

from collections.abc import Callable

import numpy as np

from truemask.miniatures.kinds import LOOKS, Kind
from truemask.miniatures.scenes import Canvas, Rgb, ellipse, shade
from truemask.miniatures.view import Spot, Thing, View, begin, shadow

Drawing = Callable[[Canvas, View, Thing, Spot], None]
"""Paints a thing that stands at a spot."""

_DARK: Rgb = (28, 28, 30)
_SKIN: tuple[Rgb, ...] = ((214, 170, 140), (150, 106, 80), (96, 66, 50))


def _tree(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    color, high = thing.color, thing.height
    wide = high * (0.22 + 0.16 * thing.look[3])
    begin(canvas, view, thing)
    canvas.polygon(spot.box(-0.16, 0, 0.16, high * 0.5), (74, 60, 48))
    random = np.random.default_rng(int(thing.look[4] * 2**32))
    for x, y, size, light in random.uniform(-1, 1, (9, 4)).tolist():
        center = spot.at(x * wide * 0.7, high * (0.66 + 0.2 * y))
        radius = wide * spot.scale * (0.5 + 0.14 * size)
        canvas.polygon(ellipse(center, (radius, radius * 0.85), 11), shade(color, 1 + 0.2 * light))


def _bush(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    begin(canvas, view, thing)
    random = np.random.default_rng(int(thing.look[4] * 2**32))
    for x, y, size, light in random.uniform(-1, 1, (5, 4)).tolist():
        center = spot.at(x * 0.9, thing.height * (0.4 + 0.15 * y))
        radius = thing.height * spot.scale * (0.5 + 0.15 * size)
        canvas.polygon(
            ellipse(center, (radius * 1.3, radius), 11), shade(thing.color, 1 + 0.2 * light)
        )


def _pole(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    begin(canvas, view, thing)
    high = thing.height
    canvas.line([spot.at(0, 0), spot.at(0, high)], thing.color, 0.14 * spot.scale)
    if thing.kind == Kind.POLE_GROUP:
        canvas.line([spot.at(0.4, 0), spot.at(0.4, high)], thing.color, 0.14 * spot.scale)
        canvas.line(
            [spot.at(0, high * 0.8), spot.at(0.4, high * 0.8)], thing.color, 0.1 * spot.scale
        )
    elif high > 5:
        arm = -1.6 if thing.x > 0 else 1.6
        canvas.line([spot.at(0, high), spot.at(arm, high)], thing.color, 0.12 * spot.scale)
        canvas.glow(spot.at(arm, high), 0.9 * spot.scale + 1, (190, 150, 90))


def _sign(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    begin(canvas, view, thing, Kind.POLE)
    canvas.line([spot.at(0, 0), spot.at(0, 2.4)], (120, 120, 120), 0.08 * spot.scale)
    begin(canvas, view, thing)
    size, form = 0.42 + 0.2 * thing.look[3], int(thing.look[4] * 4)
    if form == 0:
        canvas.polygon(spot.disc(0, 2.5, size), thing.color)
        canvas.detail(spot.disc(0, 2.5, size * 0.6), (226, 226, 220))
    elif form == 1:
        low, tip = 2.1, 2.1 + 1.7 * size
        canvas.polygon([spot.at(-size, low), spot.at(size, low), spot.at(0, tip)], thing.color)
        canvas.detail([spot.at(-size / 2, low + 0.2), spot.at(size / 2, low + 0.2),
                       spot.at(0, tip - 0.35)], (228, 226, 210))  # fmt: skip
    else:
        canvas.polygon(spot.box(-size, 2.1, size, 2.1 + 1.6 * size), thing.color)
        canvas.detail(spot.box(-size * 0.6, 2.4, size * 0.6, 2.6), (230, 230, 226))


def _text(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    begin(canvas, view, thing)
    for leg in (-1.1, 1.0):
        canvas.polygon(spot.box(leg, 0, leg + 0.1, 1.3), (110, 110, 110))
    canvas.polygon(spot.box(-1.4, 1.2, 1.4, 2.2), thing.color)
    for i in range(6):
        left = -1.2 + i * 0.4
        canvas.detail(spot.box(left, 1.45, left + 0.2, 1.95), shade(thing.color, 0.4))


def _traffic_light(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    begin(canvas, view, thing, Kind.POLE)
    canvas.line([spot.at(0, 0), spot.at(0, 2.8)], (70, 72, 70), 0.12 * spot.scale)
    begin(canvas, view, thing)
    canvas.polygon(spot.box(-0.24, 2.6, 0.24, 3.7), thing.color)
    on = int(thing.look[3] * 3)
    for i, bulb in enumerate(((60, 220, 120), (240, 190, 60), (240, 60, 50))):
        color: Rgb = bulb if i == on else (50, 48, 44)
        canvas.detail(spot.disc(0, 2.8 + 0.34 * i, 0.15, 8), color)
        if i == on:
            canvas.glow(spot.at(0, 2.8 + 0.34 * i), 0.5 * spot.scale + 0.5, shade(bulb, 0.7))


def _small(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """Cones, blocks, bins, prams, animals and loose things."""
    color, kind = thing.color, thing.kind
    shadow(canvas, spot, 0.45)
    begin(canvas, view, thing)
    if kind == Kind.CONE:
        canvas.polygon(
            [spot.at(-0.28, 0), spot.at(0.28, 0), spot.at(0.05, 0.8), spot.at(-0.05, 0.8)], color
        )
        canvas.detail(spot.box(-0.14, 0.35, 0.14, 0.5), (230, 230, 226))
    elif kind == Kind.PARKING_BLOCK:
        canvas.polygon(spot.box(-0.9, 0, 0.9, 0.3), color)
        canvas.detail(spot.box(-0.9, 0.22, 0.9, 0.3), shade(color, 1.15))
    elif kind == Kind.ANIMAL:
        canvas.polygon(ellipse(spot.at(0, 0.5), (0.5 * spot.scale, 0.2 * spot.scale)), color)
        canvas.polygon(spot.disc(0.52, 0.72, 0.17), color)
        for leg in (-0.36, -0.24, 0.24, 0.36):
            canvas.polygon(spot.box(leg, 0, leg + 0.1, 0.5), shade(color, 0.85))
    elif kind == Kind.PRAM:
        canvas.polygon(
            [spot.at(-0.45, 0.9), spot.at(0.4, 0.8), spot.at(0.3, 0.35), spot.at(-0.35, 0.35)],
            color,
        )
        for wheel in (-0.3, 0.3):
            canvas.polygon(spot.disc(wheel, 0.17, 0.17), _DARK)
    else:
        high = 1.1 if kind == Kind.STATIC else 0.9
        canvas.polygon(spot.box(-0.45, 0, 0.45, high), color)
        canvas.detail(spot.box(-0.45, high - 0.15, 0.45, high), shade(color, 0.7))


def _person(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    tall = 1.1 + 0.2 * thing.look[3] if thing.kind == Kind.CHILD else 1.6 + 0.25 * thing.look[3]
    shadow(canvas, spot, 0.4)
    begin(canvas, view, thing)
    figure(canvas, spot, thing.look, thing.color, tall=tall, stride=0.22 * thing.look[4])


def figure(
    canvas: Canvas, spot: Spot, look: tuple[float, ...], coat: Rgb, *, tall: float, stride: float
) -> None:
    """A human figure on its feet, of the canvas's current object."""
    choices = LOOKS[Kind.PERSON].colors
    trousers = shade(choices[int(look[5] * len(choices))], 0.7)
    skin = _SKIN[int(look[6] * 3)]
    hip, neck = tall * 0.48, tall * 0.84
    for foot, top in ((-stride - 0.08, -0.1), (stride + 0.02, 0.02)):
        canvas.polygon([spot.at(foot, 0), spot.at(foot + 0.15, 0), spot.at(top + 0.15, hip),
                        spot.at(top - 0.02, hip)], trousers)  # fmt: skip
    canvas.polygon([spot.at(-0.2, hip - 0.05), spot.at(0.2, hip - 0.05), spot.at(0.24, neck),
                    spot.at(-0.24, neck)], coat)  # fmt: skip
    for arm in (-0.3, 0.2):
        canvas.polygon(spot.box(arm, hip, arm + 0.1, neck - 0.04), shade(coat, 0.82))
    canvas.polygon(spot.disc(0, tall * 0.92, tall * 0.075, 10), skin)
    hair = (tall * 0.07 * spot.scale, tall * 0.045 * spot.scale)
    canvas.detail(ellipse(spot.at(0, tall * 0.955), hair), shade(skin, 0.35))


def _two_wheels(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """A bicycle or a motorcycle, with or without somebody on it."""
    color, heavy = thing.color, thing.kind == Kind.MOTORCYCLE
    shadow(canvas, spot, 0.7)
    begin(canvas, view, thing)
    thick = (0.16 if heavy else 0.07) * spot.scale
    for wheel in (-0.52, 0.52):
        ring = spot.disc(wheel, 0.33, 0.3)
        canvas.line([*ring, ring[0]], _DARK, thick)
    canvas.line(
        [spot.at(-0.52, 0.33), spot.at(-0.15, 0.8), spot.at(0.4, 0.78), spot.at(0.52, 0.33)],
        color,
        thick,
    )
    canvas.line([spot.at(-0.15, 0.8), spot.at(0.05, 0.33), spot.at(0.4, 0.95)], color, thick)
    if heavy:
        canvas.polygon(
            [spot.at(-0.5, 0.7), spot.at(0.35, 0.95), spot.at(0.3, 0.4), spot.at(-0.25, 0.3)], color
        )
    if thing.look[7] < (0.6 if heavy else 0.7):
        begin(canvas, view, thing, Kind.RIDER)
        figure(canvas, Spot(*spot.at(-0.05, 0.35), spot.scale), thing.look,
               LOOKS[Kind.RIDER].colors[int(thing.look[8] * 8)], tall=1.4, stride=0.06)  # fmt: skip


SMALL_THINGS: dict[Kind, Drawing] = {
    Kind.TREE: _tree,
    Kind.BUSH: _bush,
    **dict.fromkeys((Kind.POLE, Kind.POLE_GROUP), _pole),
    Kind.SIGN: _sign,
    Kind.TEXT: _text,
    Kind.TRAFFIC_LIGHT: _traffic_light,
    **dict.fromkeys(
        (Kind.CONE, Kind.PARKING_BLOCK, Kind.STATIC, Kind.PRAM, Kind.ANIMAL, Kind.DYNAMIC), _small
    ),
    **dict.fromkeys((Kind.PERSON, Kind.CHILD), _person),
    **dict.fromkeys((Kind.BICYCLE, Kind.MOTORCYCLE), _two_wheels),
}
