"""Pictures of generated streets."""

import numpy as np
from jaxtyping import UInt8

from truemask.miniatures.camera import paint_sky, photograph
from truemask.miniatures.kinds import LOOKS, Kind
from truemask.miniatures.scenes import Canvas, Rgb, noise, shade
from truemask.miniatures.structures import STRUCTURES
from truemask.miniatures.things import SMALL_THINGS
from truemask.miniatures.vehicles import VEHICLES, draw_bonnet
from truemask.miniatures.view import Spot, Thing, View
from truemask.miniatures.world import LANE, World

_DRAWINGS = STRUCTURES | SMALL_THINGS | VEHICLES


def take_picture(
    world: World,
    random: np.random.Generator,
    *,
    width: int,
    height: int,
    travel: float = 0.0,
    bonnet: bool = False,
) -> tuple[UInt8[np.ndarray, "H W 3"], Canvas]:
    """A photograph of a world, and the canvas that knows what each pixel shows.

    Args:
        world: the street.
        random: decides on clouds, textures and noise.
        width: in pixels.
        height: in pixels.
        travel: metres driven along the street.
        bonnet: whether one's own car is seen at the lower edge.
    """
    view = View(
        width=width,
        height=height,
        focal=world.focal * width * 0.8,
        horizon=world.horizon * height,
        bend=world.bend,
        travel=travel,
    )
    canvas = Canvas(width, height)
    paint_sky(canvas, view, world.light, random)
    _paint_skyline(canvas, view, world)
    _paint_ground(canvas, view, world)
    for thing in world.things:
        _draw(canvas, view, thing)
    if bonnet:
        draw_bonnet(canvas)
    return photograph(canvas, view, world.light, random), canvas


def _draw(canvas: Canvas, view: View, thing: Thing) -> None:
    """Paint a thing, unless it lies behind the camera or too far ahead to be seen."""
    nearest = 2.5 if thing.length == 0 else -thing.length + 1.5
    if not nearest < thing.z - view.travel < 160:
        return
    u, v = view.place(thing.x, 0, thing.z)
    _DRAWINGS[thing.kind](canvas, view, thing, Spot(u, v, view.scale(thing.z)))


def _paint_skyline(canvas: Canvas, view: View, world: World) -> None:
    """Trees, hills or houses in the distance."""
    random = np.random.default_rng(int(world.look[0] * 2**32))
    for kind, high, grain in (
        (Kind.TERRAIN, 0.09, 4),
        (Kind.TREE, 0.06, 22),
        (Kind.BUILDING, 0.12, 14),
    ):
        if random.uniform() > (0.9 if (kind == Kind.BUILDING) == world.place.city else 0.3):
            continue
        columns = np.linspace(0, canvas.width, 48)
        rise = np.abs(noise(random, 2, 48, (2, 48 / grain))[0]) * high * canvas.height * 0.6
        if kind == Kind.BUILDING:
            columns, rise = np.repeat(columns[::3], 2)[1:], np.repeat(rise[::3], 2)[:-1]
        canvas.start(kind, 220.0)
        top = [(float(x), view.horizon - float(y)) for x, y in zip(columns, rise, strict=True)]
        color = LOOKS[kind].colors[int(random.integers(len(LOOKS[kind].colors)))]
        low = view.horizon + 2
        canvas.polygon([(0, low), *top, (canvas.width, top[-1][1]), (canvas.width, low)], color)


def _paint_ground(canvas: Canvas, view: View, world: World) -> None:
    place = world.place
    verge = Kind.TERRAIN if place.verge == Kind.SIDEWALK and world.look[9] < 0.1 else place.verge
    _strip(canvas, view, verge, -400, 400, _surface(world, verge, 1))
    if place.pavement:
        color = _surface(world, Kind.SIDEWALK, 2)
        for left, right in ((world.left - place.pavement - 0.4, world.left),
                            (world.right, world.right + place.pavement + 0.4)):  # fmt: skip
            _strip(canvas, view, Kind.SIDEWALK, left, right, color)
            edge = left if left >= world.right else right
            canvas.detail(_outline(view, edge - 0.08, edge + 0.08), shade(color, 1.2))
    road = _surface(world, Kind.ROAD, 3)
    _strip(canvas, view, Kind.ROAD, world.left, world.right, road)
    _paint_marks(canvas, view, world)
    for kind, left, right, start, end in world.strips:
        _strip(canvas, view, kind, left, right, _surface(world, kind, 4), start, end)
        if kind == Kind.RAIL_TRACK:
            for rail in (left + 0.5, right - 0.5):
                canvas.polygon(_outline(view, rail - 0.06, rail + 0.06), (176, 172, 168))
        if kind == Kind.CROSSING:
            canvas.start(Kind.ROAD)
            for x in np.arange(left + 0.5, right - 0.4, 1.1).tolist():
                canvas.polygon(_outline(view, x, x + 0.5, start, end), road)


def _paint_marks(canvas: Canvas, view: View, world: World) -> None:
    color = _surface(world, Kind.LANE_MARK, 5)
    canvas.start(Kind.LANE_MARK)
    lanes = round((world.right - world.left) / LANE)
    for line in range(1, lanes):
        x = world.left + line * LANE
        first = view.travel - view.travel % 9
        for z in np.arange(first, first + 90, 9.0).tolist():
            canvas.polygon(_outline(view, x - 0.08, x + 0.08, z, z + 4.5), color)
    if world.look[6] < 0.7:
        for x in (world.left + 0.3, world.right - 0.3):
            canvas.polygon(_outline(view, x - 0.07, x + 0.07), color)


def _surface(world: World, kind: Kind, number: int) -> Rgb:
    choices = LOOKS[kind].colors
    base = choices[int(world.look[number] * len(choices))]
    return shade(base, 0.86 + 0.3 * world.look[number + 2])


def _strip(
    canvas: Canvas,
    view: View,
    kind: Kind,
    left: float,
    right: float,
    color: Rgb,
    start: float = 0.0,
    end: float = 400.0,
) -> None:
    canvas.start(kind)
    canvas.polygon(_outline(view, left, right, start, end), color)


def _outline(
    view: View, left: float, right: float, start: float = 0.0, end: float = 400.0
) -> list[tuple[float, float]]:
    """A strip of the ground along the road, as a polygon that follows its curve."""
    if end >= 400.0:
        start, end = view.travel, view.travel + 400.0
    count = 14 if end - start > 20 else 3
    places = np.geomspace(view.depth(start), view.depth(end), count) + view.travel
    near = [view.place(left, 0, z) for z in places.tolist()]
    return near + [view.place(right, 0, z) for z in reversed(places.tolist())]
