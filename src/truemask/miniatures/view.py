"""The world of a generated street: where things stand, where they appear, in which light."""

from dataclasses import dataclass

from truemask.miniatures.kinds import LOOKS, Kind
from truemask.miniatures.scenes import Canvas, Point, Rgb, ellipse, rectangle, shade


@dataclass(frozen=True, kw_only=True)
class View:
    """Where the camera stands and looks: ahead along z, with x to the right and y upwards.

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        focal: focal length in pixels.
        horizon: row of the horizon.
        bend: how the road curves; 0 is straight.
        travel: metres driven so far.
    """

    width: int
    height: int
    focal: float
    horizon: float
    bend: float = 0.0
    travel: float = 0.0

    def depth(self, z: float) -> float:
        """Metres from the camera, at least one."""
        return max(z - self.travel, 1.0)

    def place(self, x: float, y: float, z: float) -> Point:
        """The pixel that shows a point of the world."""
        depth = self.depth(z)
        aside = x + self.bend * depth * depth
        return (
            self.width / 2 + self.focal * aside / depth,
            self.horizon + self.focal * (1.5 - y) / depth,
        )

    def scale(self, z: float) -> float:
        """Pixels a metre at that distance."""
        return self.focal / self.depth(z)


@dataclass(frozen=True)
class Light:
    """Weather and time of day, in the words of BDD100K.

    Attributes:
        weather: clear, partly cloudy, overcast, rainy, snowy, foggy or undefined.
        timeofday: daytime, dawn/dusk, night or undefined.
    """

    weather: str = "clear"
    timeofday: str = "daytime"

    @property
    def lamps_lit(self) -> bool:
        """Whether windows and lamps shine."""
        return self.timeofday in ("night", "dawn/dusk")

    @property
    def sky(self) -> tuple[Rgb, Rgb]:
        """The colours above and at the horizon, before the night darkens them."""
        if self.timeofday == "dawn/dusk":
            return (96, 108, 148), (236, 180, 140)
        top, low = {
            "clear": ((96, 142, 200), (196, 212, 226)),
            "partly cloudy": ((112, 146, 192), (206, 214, 220)),
        }.get(self.weather, ((176, 180, 184), (212, 212, 210)))
        return top, low

    @property
    def haze(self) -> float:
        """How much of a colour the air takes, by metre."""
        return {"foggy": 0.035, "rainy": 0.008, "snowy": 0.01}.get(self.weather, 0.003)


@dataclass(frozen=True)
class Thing:
    """Something in the world.

    Attributes:
        kind: what it is.
        x: metres to the right of the camera, of its middle or of its side at the road.
        z: metres ahead of where the car started, of its near end.
        look: ten numbers in [0, 1) that decide on its appearance.
        length: metres along the road.
        height: metres.
    """

    kind: Kind
    x: float
    z: float
    look: tuple[float, ...]
    length: float = 0.0
    height: float = 0.0

    @property
    def end(self) -> float:
        """Its far end, by which things are painted from back to front."""
        return self.z + self.length

    @property
    def color(self) -> Rgb:
        """Its main colour."""
        choices = LOOKS[self.kind].colors
        base = choices[int(self.look[0] * len(choices))]
        shift = (self.look[1] - 0.5) * 44
        return base[0] + shift, base[1] + shift, base[2] + shift + (self.look[2] - 0.5) * 14


@dataclass(frozen=True)
class Spot:
    """Where a thing stands in the picture; `at` takes metres to the right and upwards."""

    u: float
    v: float
    scale: float

    def at(self, x: float, y: float) -> Point:
        """The pixel of a point of the thing."""
        return self.u + x * self.scale, self.v - y * self.scale

    def box(self, left: float, bottom: float, right: float, top: float) -> list[Point]:
        """An upright rectangle of the thing."""
        return rectangle(*self.at(left, top), *self.at(right, bottom))

    def disc(self, x: float, y: float, radius: float, corners: int = 12) -> list[Point]:
        """A circle of the thing."""
        return ellipse(self.at(x, y), (radius * self.scale, radius * self.scale), corners)


def begin(canvas: Canvas, view: View, thing: Thing, kind: Kind | None = None) -> None:
    """Start the object of a thing, or of a part of it that is of another kind."""
    canvas.start(thing.kind if kind is None else kind, view.depth(thing.z))


def side(view: View, thing: Thing, bottom: float, top: float) -> list[Point]:
    """The side of a long thing that faces the road."""
    ends = (thing.z, thing.z + thing.length / 2, thing.end)
    lower = [view.place(thing.x, bottom, z) for z in ends]
    return lower + [view.place(thing.x, top, z) for z in reversed(ends)]


def shadow(canvas: Canvas, spot: Spot, wide: float) -> None:
    """Darkness under a thing; it belongs to the ground, whatever that is."""
    canvas.detail(
        ellipse(spot.at(0, 0), (wide * spot.scale, 0.12 * wide * spot.scale + 0.5)), (38, 38, 40)
    )


def lit(color: Rgb, side: float) -> Rgb:
    """A wall's colour by the side from which it is seen: the sun stands on the right."""
    return shade(color, 1.0 + 0.16 * side)
