"""Drawing what is built beside and above a generated street: houses, fences, bridges, tunnels."""

import numpy as np

from truemask.miniatures.kinds import Kind
from truemask.miniatures.scenes import Canvas, Point, Rgb, blend, rectangle, shade
from truemask.miniatures.things import Drawing
from truemask.miniatures.view import Spot, Thing, View, begin, lit, side

_GLASS: Rgb = (52, 60, 70)
# Metres that a house reaches back from the road.
_DEEP = 14.0


def _building(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    out = 1.0 if thing.x > 0 else -1.0
    color, high = thing.color, thing.height
    begin(canvas, view, thing)
    back = view.place(thing.x + out * _DEEP, 0, thing.z)
    if thing.z - view.travel > 1.5:
        roof = view.place(thing.x + out * _DEEP, high, thing.z)
        front = lit(color, 0.4)
        canvas.polygon([spot.at(0, 0), spot.at(0, high), roof, back], front)
        _windows(canvas, view, thing, front, front=True)
    flank = lit(color, -out)
    canvas.polygon(side(view, thing, 0, high), flank)
    canvas.detail(side(view, thing, 0, 3.0), shade(flank, 0.8))
    _windows(canvas, view, thing, flank, front=False)


def _windows(canvas: Canvas, view: View, thing: Thing, wall: Rgb, *, front: bool) -> None:
    """Rows of windows in the wall that faces the camera, or in the one along the road."""
    if max(view.scale(thing.z) * 1.2, view.scale(thing.end)) < 3:
        return
    width = _DEEP if front else thing.length
    columns, rows = max(1, int(width / (2.4 + 2 * thing.look[3]))), max(1, int(thing.height / 3.2))
    random = np.random.default_rng(int(thing.look[4] * 2**32))
    size = width / columns * (0.4 + 0.25 * thing.look[5])
    for number, bright in enumerate(random.uniform(size=columns * rows).tolist()):
        column, row = divmod(number, rows)
        start = (column + 0.5) * width / columns - size / 2
        low = 1.0 + row * (thing.height - 0.6) / rows
        corners = rectangle(start, low, start + size, low + 1.5)
        points = [_on_wall(view, thing, along, up, front=front) for along, up in corners]
        pane = blend(_GLASS, (150, 170, 190), bright * 0.6)
        canvas.detail(points, blend(pane, wall, 0.25))
        if bright > 0.78:
            canvas.glow(points[0], max(view.scale(thing.z) * 0.7, 1.0), (90, 70, 34))


def _on_wall(view: View, thing: Thing, along: float, up: float, *, front: bool) -> Point:
    """The pixel of a point of a wall, so far from the corner at the road's near end."""
    if front:
        return view.place(thing.x + (along if thing.x > 0 else -along), up, thing.z)
    return view.place(thing.x, up, thing.z + along)


def _long(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """A wall, a fence or a guard rail along the road."""
    low = 0.35 if thing.kind == Kind.GUARD_RAIL else 0.0
    begin(canvas, view, thing)
    color = lit(thing.color, -np.sign(thing.x))
    canvas.polygon(side(view, thing, low, thing.height), color)
    if thing.kind == Kind.WALL:
        canvas.detail(side(view, thing, thing.height * 0.9, thing.height), shade(color, 1.15))
        return
    if thing.kind == Kind.FENCE:
        canvas.detail(side(view, thing, 0.12, thing.height * 0.9), blend(color, (84, 96, 60), 0.6))
    for z in np.arange(thing.z, thing.end, 1.5 if thing.kind == Kind.FENCE else 3.0).tolist():
        if view.scale(z) > 2 and z - view.travel > 1.5:
            foot, top = view.place(thing.x, 0, z), view.place(thing.x, thing.height, z)
            canvas.line([foot, top], shade(color, 0.85), view.scale(z) * 0.07)


def _bridge(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """A deck across the road on two piers."""
    begin(canvas, view, thing)
    reach, deck = 30.0, 4.6
    color = thing.color
    for x in (-thing.height, thing.height):
        canvas.polygon(_upright(view, thing.z, x - 0.6, x + 0.6, 0, deck), shade(color, 0.85))
    under = [view.place(-reach, deck, thing.z), view.place(reach, deck, thing.z),
             view.place(reach, deck, thing.end), view.place(-reach, deck, thing.end)]  # fmt: skip
    canvas.polygon(under, shade(color, 0.45))
    canvas.polygon(_upright(view, thing.z, -reach, reach, deck, deck + 1.7), color)
    canvas.detail(_upright(view, thing.z, -reach, reach, deck + 1.4, deck + 1.7), shade(color, 1.2))


def _tunnel(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """Walls and ceiling along the road; `height` is half of the width inside."""
    begin(canvas, view, thing)
    half, top = thing.height, 5.2
    near = view.travel + 1.0
    color = thing.color
    for left, right, low in ((-60.0, -half, -1.0), (half, 60.0, -1.0), (-half, half, top)):
        canvas.polygon(_upright(view, thing.end, left, right, low, 14), color)
    for x, light in ((-half, 0.75), (half, 0.9)):
        wall = [
            view.place(x, y, z)
            for y, z in ((0, near), (0, thing.end), (top, thing.end), (top, near))
        ]
        canvas.polygon(wall, shade(color, light))
    ceiling = [
        view.place(x, top, z)
        for x, z in ((-half, near), (half, near), (half, thing.end), (-half, thing.end))
    ]
    canvas.polygon(ceiling, shade(color, 0.55))
    for z in np.arange(near + 4, thing.end, 7.0).tolist():
        lamp = ((-0.4, z), (0.4, z), (0.4, z + 1.5), (-0.4, z + 1.5))
        canvas.detail([view.place(x, top - 0.05, end) for x, end in lamp], (250, 236, 190))
        canvas.glow(view.place(0, top, z), 1.0 * view.scale(z) + 1, (120, 100, 60))


def _archway(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """A house across the road with an opening in it; `height` is half of the opening's width."""
    begin(canvas, view, thing)
    half, color = thing.height, thing.color
    for left, right in ((-half - 9, -half), (half, half + 9)):
        canvas.polygon(_upright(view, thing.z, left, right, 0, 9), color)
    canvas.polygon(_upright(view, thing.z, -half - 1, half + 1, 5, 9), shade(color, 0.96))
    canvas.detail(_upright(view, thing.z, -half - 9, half + 9, 8.4, 9), shade(color, 0.7))


def _upright(
    view: View, z: float, left: float, right: float, bottom: float, top: float
) -> list[Point]:
    """A rectangle across the road at a distance."""
    return [
        view.place(x, y, z) for x, y in ((left, bottom), (right, bottom), (right, top), (left, top))
    ]


STRUCTURES: dict[Kind, Drawing] = {
    Kind.BUILDING: _building,
    **dict.fromkeys((Kind.WALL, Kind.FENCE, Kind.GUARD_RAIL), _long),
    Kind.BRIDGE: _bridge,
    Kind.TUNNEL: _tunnel,
    Kind.ARCHWAY: _archway,
}
