"""Generated streets: what stands where beside and on a road, by the kind of place.

A world is a road with things along it, made once from random numbers of its own. Pictures of it can
be taken anywhere along the road, so that a drive is a sequence of pictures of one world.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from truemask.miniatures.kinds import Kind
from truemask.miniatures.view import Light, Thing

LANE = 3.3
"""Width of a lane in metres."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a kind of place has beside its road; numbers of things are per 100 m.

    Attributes:
        city: whether it is in a city.
        lanes: the fewest and the most lanes.
        built: share of the roadside with buildings.
        storeys: the fewest and the most.
        pavement: width of the pavements in metres, 0 for none.
        verge: what the land beside the road is.
        trees: number of trees.
        people: number of people on foot.
        traffic: number of vehicles that drive.
        parked: share of the kerb that is taken by parked cars.
        poles: number of lamps, signs and traffic lights.
        rail: what runs along the road instead of pavements, if anything does.
    """

    city: bool = False
    lanes: tuple[int, int] = (2, 2)
    built: float = 0.0
    storeys: tuple[int, int] = (2, 3)
    pavement: float = 0.0
    verge: Kind = Kind.TERRAIN
    trees: float = 8.0
    people: float = 0.0
    traffic: float = 6.0
    parked: float = 0.0
    poles: float = 4.0
    rail: tuple[Kind, ...] = ()


PLACES = {
    "city street": Place(city=True, lanes=(2, 4), built=0.88, storeys=(3, 8), pavement=3.0,
                         verge=Kind.SIDEWALK, trees=5, people=17, traffic=11, parked=0.45,
                         poles=13),
    "residential": Place(built=0.4, storeys=(2, 3), pavement=1.6, trees=16, people=2.5, traffic=3,
                         parked=0.4, poles=6, rail=(Kind.FENCE, Kind.WALL)),
    "highway": Place(lanes=(3, 5), trees=9, traffic=8, poles=3, built=0.03,
                     rail=(Kind.GUARD_RAIL, Kind.WALL, Kind.FENCE)),
    "country road": Place(trees=18, traffic=3, poles=2, built=0.05, rail=(Kind.FENCE,)),
    "parking lot": Place(built=0.25, storeys=(1, 2), verge=Kind.PARKING, trees=4, people=4,
                         traffic=2, parked=0.95, poles=4),
    "gas stations": Place(built=0.3, storeys=(1, 2), verge=Kind.GROUND, trees=4, people=3,
                          traffic=5, parked=0.2, poles=6),
    "tunnel": Place(lanes=(2, 3), trees=0, traffic=7, poles=0, pavement=1.0),
}  # fmt: skip

_ON_THE_ROAD = frozenset(
    {Kind.CAR, Kind.SUV, Kind.TRUCK, Kind.BUS, Kind.TRAIN, Kind.CARAVAN, Kind.TRAILER,
     Kind.MOTORCYCLE}
)  # fmt: skip
_STRIPS = (Kind.CROSSING, Kind.PARKING, Kind.RAIL_TRACK, Kind.GROUND, Kind.SHOULDER)
# Heights of what runs along the road, in metres.
_LONG = {Kind.GUARD_RAIL: 0.9, Kind.WALL: 1.9, Kind.FENCE: 1.5}


@dataclass(frozen=True, kw_only=True)
class World:
    """A street with everything in it.

    Attributes:
        place: what kind of place it is.
        light: in which it is seen.
        left: left edge of the road in metres, negative.
        right: right edge of the road in metres.
        bend: how the road curves.
        horizon: height of the horizon, as a share of the picture's.
        focal: focal length, as a share of the picture's width.
        strips: further strips on the ground: kind, left edge, right edge, start and end.
        things: what stands and drives there.
        look: random numbers that decide on colours.
    """

    place: Place
    light: Light
    left: float
    right: float
    bend: float
    horizon: float
    focal: float
    strips: tuple[tuple[Kind, float, float, float, float], ...]
    things: tuple[Thing, ...]
    look: tuple[float, ...]


def build_world(
    random: np.random.Generator,
    place: Place,
    light: Light,
    *,
    reach: float = 110.0,
    extras: Sequence[Kind] = (),
    spread: float = 7.0,
    horizon: float = 0.44,
) -> World:
    """Make a world.

    Args:
        random: decides on everything.
        place: what kind of place it is.
        light: in which it is seen.
        reach: metres of road that are furnished.
        extras: rare things that are to stand near the start of the road.
        spread: within how many metres these stand, from 7 m on.
        horizon: height of the horizon, as a share of the picture's.
    """
    lanes = int(random.integers(place.lanes[0], place.lanes[1] + 1))
    right = LANE * random.uniform(0.55, 0.95) + LANE * (lanes > 3)
    left = right - lanes * LANE
    builder = _Builder(random, place, left, right, reach)
    builder.furnish()
    strips = [builder.strip(kind) for kind in extras if kind in _STRIPS]
    if place.rail == () and place.city and random.uniform() < 0.3:
        strips.append(builder.strip(Kind.CROSSING))
    rare: list[Thing] = []
    for kind in extras:
        rare += builder.extra(kind, spread, rare)
    usual = [one for one in builder.things if not any(_hides(one, other) for other in rare)]
    return World(
        place=place,
        light=light,
        left=left,
        right=right,
        bend=float(random.normal(0, 0.0012)),
        horizon=horizon + float(random.normal(0, 0.015)),
        focal=float(random.uniform(0.75, 0.95)),
        strips=tuple(strips),
        things=tuple(sorted(usual + rare, key=lambda thing: -thing.end)),
        look=tuple(random.uniform(size=10).tolist()),
    )


def _hides(near: Thing, far: Thing) -> bool:
    """Whether a thing of the usual width stands in front of another, seen from the start."""
    if near.length or near.z >= far.z:
        return False
    return abs(near.x / near.z - far.x / far.z) < 1.6 / near.z + 1.0 / far.z


class _Builder:
    """Puts things along a road."""

    def __init__(
        self, random: np.random.Generator, place: Place, left: float, right: float, reach: float
    ) -> None:
        self.random, self.place, self.reach = random, place, reach
        self.left, self.right = left, right
        self.things: list[Thing] = []

    def _thing(
        self, kind: Kind, x: float, z: float, *, length: float = 0, height: float = 0
    ) -> Thing:
        return Thing(kind, x, z, tuple(self.random.uniform(size=10).tolist()), length, height)

    def _add(self, kind: Kind, x: float, z: float, *, length: float = 0, height: float = 0) -> None:
        self.things.append(self._thing(kind, x, z, length=length, height=height))

    def furnish(self) -> None:
        place = self.place
        for side in (-1.0, 1.0):
            self._buildings(side)
            if place.rail and self.random.uniform() < 0.55:
                self._rail(side)
            self._parked(side)
            for _ in range(self._number(place.trees / 2)):
                self._tree(side)
            for _ in range(self._number(place.poles / 2)):
                self._pole(side)
            for _ in range(self._number(place.people / 2)):
                self._walker(side)
        for _ in range(self._number(place.traffic)):
            self._driver()

    def strip(self, kind: Kind) -> tuple[Kind, float, float, float, float]:
        """Where a strip of another ground lies."""
        if kind == Kind.CROSSING:
            start = self.random.uniform(8, 16)
            return kind, self.left, self.right, start, start + 3.0
        if kind == Kind.RAIL_TRACK:
            middle = (self.left + self.right) / 2 - 1
            return kind, middle - 1.3, middle + 1.3, 0.0, 400.0
        if self.random.uniform() < 0.5:
            return kind, self.right, self.right + 2.6, 0.0, 400.0
        return kind, self.left - 2.6, self.left, 0.0, 400.0

    def extra(self, kind: Kind, spread: float, others: Sequence[Thing]) -> list[Thing]:
        """Something rare at a place where others neither hide it nor are hidden by it."""
        if kind in _STRIPS:
            return []
        for _ in range(12):
            found = self._rare(kind, 7 + spread * float(self.random.uniform()))
            if not any(_hides(found, other) or _hides(other, found) for other in others):
                break
        return [found]

    def _rare(self, kind: Kind, ahead: float) -> Thing:
        half = max(-self.left, self.right) + 1.5
        if kind == Kind.TUNNEL:
            return self._thing(kind, 0.0, 0.0, length=60.0, height=half)
        if kind in (Kind.BRIDGE, Kind.ARCHWAY):
            return self._thing(kind, 0.0, ahead + 12, length=6.0, height=half)
        if kind in _LONG:
            return self._thing(kind, self.right + 0.6, 3.0, length=45, height=_LONG[kind])
        if kind in _ON_THE_ROAD:
            x = self.left / 2 if self.random.uniform() < 0.6 else self.right - 1.2
            return self._thing(kind, x, ahead + 2)
        side = 1.0 if self.random.uniform() < 0.6 else -1.0
        # As far ahead as it must be to stand within the picture.
        return self._beside(kind, side, max(ahead, 1.6 * abs(self._edge(side)) + 3.5))

    def _number(self, per_100_metres: float) -> int:
        return int(self.random.poisson(per_100_metres * self.reach / 100))

    def _edge(self, side: float) -> float:
        return self.right if side > 0 else self.left

    def _ahead(self) -> float:
        # More of it near the camera than far away, as otherwise next to nothing can be seen.
        return 3.5 + (self.reach - 3.5) * float(self.random.uniform() ** 1.5)

    def _beside(self, kind: Kind, side: float, z: float) -> Thing:
        """A small thing beside the road."""
        height = {Kind.BUSH: 1.3, Kind.POLE: 5.5, Kind.POLE_GROUP: 4.0}.get(kind, 0.0)
        wide = max(self.place.pavement, 1.5)
        x = self._edge(side) + side * float(self.random.uniform(0.4, wide))
        return self._thing(kind, x, z, height=height)

    def _buildings(self, side: float) -> None:
        z, place = float(self.random.uniform(-12, 4)), self.place
        setback = place.pavement + 0.4 + (0 if place.city else float(self.random.uniform(2, 9)))
        while z < self.reach + 40:
            length = float(self.random.uniform(9, 20))
            if self.random.uniform() < place.built:
                storeys = int(self.random.integers(place.storeys[0], place.storeys[1] + 1))
                self._add(Kind.BUILDING, self._edge(side) + side * setback, z, length=length,
                         height=storeys * 3.1 + 1.0)  # fmt: skip
            z += length + (0 if place.city else 6)

    def _rail(self, side: float) -> None:
        kind = self.place.rail[int(self.random.integers(len(self.place.rail)))]
        start = float(self.random.uniform(0, 20))
        x = self._edge(side) + side * (self.place.pavement + 0.9)
        self._add(kind, x, start, length=float(self.random.uniform(25, 70)), height=_LONG[kind])

    def _parked(self, side: float) -> None:
        z = float(self.random.uniform(4, 9))
        kinds, chances = (Kind.CAR, Kind.SUV, Kind.TRUCK), (0.78, 0.18, 0.04)
        while z < self.reach:
            if self.random.uniform() < self.place.parked:
                kind = kinds[int(self.random.choice(3, p=chances))]
                self._add(kind, self._edge(side) - side * 1.05, z)
            z += float(self.random.uniform(5.6, 7.5))

    def _tree(self, side: float) -> None:
        far = 2.5 if self.place.city else float(self.random.exponential(9))
        x = self._edge(side) + side * (
            self.place.pavement * 0.7 + 0.6 + far * (not self.place.city)
        )
        kind = Kind.TREE if self.place.city or self.random.uniform() < 0.75 else Kind.BUSH
        height = 1.4 if kind == Kind.BUSH else float(self.random.uniform(4.5, 9.5))
        self._add(kind, x, self._ahead(), height=height)

    def _pole(self, side: float) -> None:
        kinds = (Kind.POLE, Kind.SIGN, Kind.TRAFFIC_LIGHT, Kind.TEXT)
        chances = (0.42, 0.32, 0.23, 0.03) if self.place.city else (0.5, 0.4, 0.07, 0.03)
        kind = kinds[int(self.random.choice(4, p=chances))]
        x = self._edge(side) + side * float(self.random.uniform(0.3, 0.8))
        height = float(self.random.uniform(5.2, 7.5)) if kind == Kind.POLE else 0.0
        self._add(kind, x, self._ahead(), height=height)

    def _walker(self, side: float) -> None:
        kinds = (Kind.PERSON, Kind.CHILD, Kind.BICYCLE, Kind.STATIC)
        kind = kinds[int(self.random.choice(4, p=(0.74, 0.05, 0.14, 0.07)))]
        self.things.append(self._beside(kind, side, self._ahead()))

    def _driver(self) -> None:
        kinds = (Kind.CAR, Kind.SUV, Kind.TRUCK, Kind.BUS, Kind.MOTORCYCLE, Kind.BICYCLE)
        kind = kinds[int(self.random.choice(6, p=(0.66, 0.16, 0.07, 0.03, 0.03, 0.05)))]
        lanes = round((self.right - self.left) / LANE)
        x = self.left + (float(self.random.integers(lanes)) + 0.5) * LANE
        self._add(kind, x, self._ahead() + (5.0 if abs(x) < 1.6 else 1.0))
