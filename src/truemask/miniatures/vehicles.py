"""Drawing the vehicles of a generated street, and the bonnet of the car that carries the camera."""

from dataclasses import dataclass

from truemask.miniatures.kinds import Kind
from truemask.miniatures.scenes import Canvas, Point, Rgb, blend, rectangle, shade
from truemask.miniatures.things import Drawing
from truemask.miniatures.view import Spot, Thing, View, begin, lit, shadow, side

_GLASS: Rgb = (50, 60, 72)
_TYRE: Rgb = (24, 24, 26)


@dataclass(frozen=True)
class _Body:
    """Measures of a vehicle in metres.

    Attributes:
        half: half of its width.
        top: height of the roof.
        belt: height where the windows begin.
        length: from end to end.
        tumble: how far the roof is drawn in on each side.
    """

    half: float
    top: float
    belt: float
    length: float
    tumble: float = 0.0


_BODIES = {
    Kind.CAR: _Body(0.9, 1.45, 0.9, 4.2, 0.18),
    Kind.SUV: _Body(0.96, 1.85, 1.1, 4.6, 0.1),
    Kind.TRUCK: _Body(1.25, 3.3, 1.5, 8.0),
    Kind.BUS: _Body(1.28, 3.1, 1.2, 11.0, 0.04),
    Kind.TRAIN: _Body(1.35, 3.5, 1.3, 24.0, 0.06),
    Kind.CARAVAN: _Body(1.1, 2.5, 1.2, 5.0, 0.06),
    Kind.TRAILER: _Body(1.1, 1.6, 1.6, 5.0),
}


def _vehicle(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """A vehicle from behind or from the front, and the side that can be seen."""
    body = _BODIES[thing.kind]
    color = thing.color
    shadow(canvas, spot, body.half * 1.15)
    begin(canvas, view, thing)
    inner = thing.x - (body.half if thing.x > 0 else -body.half)
    if abs(inner) > 0.2:
        flank = Thing(thing.kind, inner, thing.z, thing.look, body.length)
        sun = -1.0 if thing.x > 0 else 1.0
        canvas.polygon(side(view, flank, 0.3, body.belt), lit(shade(color, 0.85), sun))
        canvas.polygon(side(view, flank, body.belt, body.top * 0.97), lit(shade(color, 0.8), sun))
        if thing.kind not in (Kind.TRUCK, Kind.TRAILER):
            canvas.detail(side(view, flank, body.belt + 0.05, body.top * 0.9), _GLASS)
        for share in (0.1, 0.72):
            wheel = Thing(thing.kind, inner, thing.z + share * body.length, thing.look, 0.7)
            canvas.polygon(side(view, wheel, 0.0, 0.62), _TYRE)
    _rear(canvas, thing, spot, body)


def _rear(canvas: Canvas, thing: Thing, spot: Spot, body: _Body) -> None:
    color, half = thing.color, body.half
    for left in (-half * 0.92, half * 0.62):
        canvas.polygon(spot.box(left, 0, left + half * 0.3, 0.45), _TYRE)
    canvas.polygon(spot.box(-half, 0.25, half, body.belt), color)
    roof = half - body.tumble
    if body.top > body.belt:
        cabin = ((-half, body.belt), (half, body.belt), (roof, body.top), (-roof, body.top))
        canvas.polygon([spot.at(x, y) for x, y in cabin], color)
    if thing.kind in (Kind.TRUCK, Kind.TRAILER):
        canvas.detail(spot.box(-0.03, 0.7, 0.03, body.top - 0.1), shade(color, 0.7))
    else:
        pane = blend(_GLASS, (150, 170, 186), thing.look[6] * 0.5)
        low, high = body.belt + 0.02, body.top - 0.12
        window = (
            (-half * 0.86, low),
            (half * 0.86, low),
            (roof * 0.88, high),
            (-roof * 0.88, high),
        )
        canvas.detail([spot.at(x, y) for x, y in window], pane)
    canvas.detail(spot.box(-half, 0.25, half, 0.42), shade(color, 0.55))
    canvas.detail(spot.box(-0.26, 0.5, 0.26, 0.62), (220, 220, 210))
    coming = thing.look[3] < 0.5
    lamp: Rgb = (244, 240, 214) if coming else (176, 30, 30)
    for left in (-half * 0.95, half * 0.67):
        canvas.detail(spot.box(left, 0.62, left + half * 0.28, 0.8), lamp)
        glow: Rgb = (230, 220, 180) if coming else (170, 24, 20)
        canvas.glow(spot.at(left + half * 0.14, 0.7), 0.3 * spot.scale + 0.6, glow)


def _parked_across(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    """A car from its side: one that crosses the road, or stands in a row."""
    color = thing.color
    shadow(canvas, spot, 2.2)
    begin(canvas, view, thing)
    front = 1.0 if thing.look[3] < 0.5 else -1.0

    def outline(points: tuple[Point, ...]) -> list[Point]:
        return [spot.at(front * x, y) for x, y in points]

    canvas.polygon(
        outline(((-2.1, 0.3), (2.1, 0.3), (2.1, 0.75), (1.3, 0.92), (-2.0, 0.98))), color
    )
    canvas.polygon(
        outline(((-1.7, 0.9), (1.3, 0.9), (0.6, 1.45), (-1.1, 1.48))), shade(color, 0.95)
    )
    canvas.detail(outline(((-1.4, 0.95), (1.05, 0.95), (0.5, 1.37), (-1.0, 1.4))), _GLASS)
    canvas.detail(outline(((-0.25, 0.95), (-0.15, 0.95), (-0.15, 1.4), (-0.25, 1.4))), color)
    for wheel in (-1.3, 1.3):
        canvas.polygon(spot.disc(wheel, 0.32, 0.32), _TYRE)
        canvas.detail(spot.disc(wheel, 0.32, 0.16), (130, 130, 134))


def _car(canvas: Canvas, view: View, thing: Thing, spot: Spot) -> None:
    if thing.look[9] > 0.86 and thing.kind == Kind.CAR:
        _parked_across(canvas, view, thing, spot)
    else:
        _vehicle(canvas, view, thing, spot)


def draw_bonnet(canvas: Canvas, color: Rgb = (46, 48, 54)) -> None:
    """The bonnet of one's own car along the lower edge, always at the same place."""
    width, height = canvas.width, canvas.height
    canvas.start(Kind.EGO, 1.0)
    rise = (0.0, 0.045, 0.07, 0.08, 0.08, 0.07, 0.045, 0.0)
    top = [(width * (0.08 + 0.12 * i), height * (0.985 - r)) for i, r in enumerate(rise)]
    canvas.polygon([(width * 0.04, height), *top, (width * 0.96, height)], color)
    canvas.detail(
        rectangle(width * 0.44, height * 0.93, width * 0.52, height * 0.945), shade(color, 2.2)
    )


VEHICLES: dict[Kind, Drawing] = {
    **dict.fromkeys((Kind.CAR, Kind.SUV), _car),
    **dict.fromkeys((Kind.TRUCK, Kind.BUS, Kind.TRAIN, Kind.CARAVAN, Kind.TRAILER), _vehicle),
}
