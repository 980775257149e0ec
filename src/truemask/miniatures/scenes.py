"""Drawing generated pictures: a canvas that knows what each pixel shows, noise, and a lens.

A picture is painted from back to front with polygons. Each polygon belongs to an object; the canvas
keeps, beside the colours, which object each pixel shows, so that masks of classes and of instances
are exact. Textures, haze and light come afterwards, over all pixels at once.
"""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
Rgb = tuple[float, float, float]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
"""(H, W) truth values."""

# Polygons that come close to the camera reach far outside of the picture.
_FARTHEST = 20_000.0
# More than these, far away and tiny, only take time.
_LAMPS = 60


def generator(seed: int, *address: str | int) -> np.random.Generator:
    """The random numbers that belong to one address, such as ("voc2012", 17), under a seed."""
    parts = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in address]
    return np.random.default_rng([seed, *parts])


class Canvas:
    """A picture in the making: its colours, and the object that each pixel shows.

    Attributes:
        width: in pixels.
        height: in pixels.
        kinds: the kind of each object, by its number; object 0 is what nothing was painted on.
        depths: how far each object is, in metres; 0 for the ground, whose depth depends on the row.
        glows: lamps that shine in the dark: place, radius in pixels, colour.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.kinds: list[int] = [0]
        self.depths: list[float] = [1e6]
        self.glows: list[tuple[Point, float, Rgb]] = []
        self._picture = Image.new("RGB", (width, height))
        self._objects = Image.new("I", (width, height))
        self._paint = ImageDraw.Draw(self._picture)
        self._mark = ImageDraw.Draw(self._objects)

    def start(self, kind: int, depth: float = 0.0) -> None:
        """Begin a new object, to which everything painted from now on belongs."""
        self.kinds.append(int(kind))
        self.depths.append(depth)

    def polygon(self, points: Iterable[Point], color: Rgb) -> None:
        """Paint a filled polygon of the current object."""
        corners = _bounded(points)
        self._paint.polygon(corners, fill=_color(color))
        self._mark.polygon(corners, fill=len(self.kinds) - 1)

    def detail(self, points: Iterable[Point], color: Rgb) -> None:
        """Paint something that is no object of its own, such as a window or a shadow."""
        self._paint.polygon(_bounded(points), fill=_color(color))

    def line(self, points: Iterable[Point], color: Rgb, width: float) -> None:
        """Paint a line of the current object, of at least one pixel."""
        corners, thick = _bounded(points), max(1, round(width))
        self._paint.line(corners, fill=_color(color), width=thick)
        self._mark.line(corners, fill=len(self.kinds) - 1, width=thick)

    def fill(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Paint everything, as the current object, with the pixels of a picture."""
        self._picture.paste(Image.fromarray(picture))
        self._objects.paste(len(self.kinds) - 1, (0, 0, self.width, self.height))

    def glow(self, place: Point, radius: float, color: Rgb) -> None:
        """Put a lamp somewhere; whether it is lit is the photographer's to say."""
        if 0 <= place[0] < self.width and 0 <= place[1] < self.height and len(self.glows) < _LAMPS:
            self.glows.append((place, radius, color))

    @property
    def colors(self) -> Float32[np.ndarray, "H W 3"]:
        """What was painted, 0 to 255."""
        return np.asarray(self._picture, dtype=np.float32)

    @property
    def objects(self) -> Int32[np.ndarray, "H W"]:
        """The number of the object that each pixel shows."""
        return np.asarray(self._objects, dtype=np.int32)

    @property
    def classes(self) -> UInt8[np.ndarray, "H W"]:
        """The kind of the object that each pixel shows."""
        kinds: UInt8[np.ndarray, "H W"] = np.array(self.kinds, dtype=np.uint8)[self.objects]
        return kinds


def _bounded(points: Iterable[Point]) -> list[Point]:
    far = _FARTHEST
    return [
        point
        if -far < point[0] < far and -far < point[1] < far
        else (min(max(point[0], -far), far), min(max(point[1], -far), far))
        for point in points
    ]


def _color(color: Rgb) -> tuple[int, int, int]:
    red, green, blue = (min(max(int(part), 0), 255) for part in color)
    return red, green, blue


def shade(color: Rgb, factor: float) -> Rgb:
    """A colour made lighter or darker."""
    return color[0] * factor, color[1] * factor, color[2] * factor


def blend(one: Rgb, other: Rgb, share: float) -> Rgb:
    """A colour between two: `share` 0 is the first, 1 the other."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def varied(color: Rgb, random: np.random.Generator, spread: float = 12.0) -> Rgb:
    """A colour near another, in brightness more than in hue."""
    light, hue = random.normal(0, spread), random.normal(0, spread / 3, 3)
    return color[0] + light + hue[0], color[1] + light + hue[1], color[2] + light + hue[2]


def ellipse(center: Point, radii: Point, corners: int = 16, turn: float = 0.0) -> list[Point]:
    """An ellipse as a polygon, turned by an angle in radians."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    u = center[0] + x * np.cos(turn) - y * np.sin(turn)
    v = center[1] + x * np.sin(turn) + y * np.cos(turn)
    return list(zip(u.tolist(), v.tolist(), strict=True))


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """An upright rectangle as a polygon."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def noise(
    random: np.random.Generator, height: int, width: int, grain: float | Point
) -> Float32[np.ndarray, "H W"]:
    """Smooth noise of mean 0 and a standard deviation near 1.

    Args:
        random: where it comes from.
        height: in pixels.
        width: in pixels.
        grain: size of its spots in pixels, or (down, across); 1 is white noise.
    """
    down, across = grain if isinstance(grain, tuple) else (grain, grain)
    rows, columns = max(2, round(height / down) + 1), max(2, round(width / across) + 1)
    coarse = random.standard_normal((rows, columns), dtype=np.float32)
    if (rows, columns) == (height + 1, width + 1):
        return coarse[:height, :width]
    grown = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(grown, dtype=np.float32) * 1.3


def layered(
    random: np.random.Generator, height: int, width: int, grains: Sequence[float]
) -> Float32[np.ndarray, "H W"]:
    """Noise of several grains on top of each other, the coarsest the strongest, as clouds have."""
    weights = np.sqrt(np.array(grains) / sum(grains))
    total = np.zeros((height, width), dtype=np.float32)
    for weight, grain in zip(weights.tolist(), grains, strict=True):
        total += weight * noise(random, height, width, grain)
    return total


def to_bytes(colors: Float32[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Colours rounded to what a file holds."""
    return np.clip(colors + 0.5, 0, 255).astype(np.uint8)


def through_lens(
    colors: Float32[np.ndarray, "H W 3"],
    random: np.random.Generator,
    *,
    blur: float = 0.5,
    grain: float = 3.0,
    exposure: float = 0.1,
    balance: float = 0.03,
) -> UInt8[np.ndarray, "H W 3"]:
    """A photograph of the colours.

    Args:
        colors: 0 to 255.
        random: decides on brightness, white balance and grain.
        blur: of the lens, in pixels.
        grain: of the sensor, in grey levels.
        exposure: how much photographs differ in brightness, as a share of it.
        balance: how much they differ in white balance.
    """
    gain = np.exp(random.normal(0, exposure) + random.normal(0, balance, 3))
    sharp = Image.fromarray(to_bytes(colors * gain.astype(np.float32)))
    soft = np.asarray(sharp.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    height, width = soft.shape[:2]
    return to_bytes(soft + grain * random.standard_normal((height, width, 1), dtype=np.float32))


def textured(
    canvas: Canvas, random: np.random.Generator, strengths: Sequence[tuple[float, float]]
) -> Float32[np.ndarray, "H W 3"]:
    """What was painted, with fine and coarse texture of a strength that each object has."""
    height, width, objects = canvas.height, canvas.width, canvas.objects
    strength = np.array(strengths, dtype=np.float32)
    fine, coarse = noise(random, height, width, 1.4), noise(random, height, width, width / 16)
    relief = strength[objects, 0] * fine + strength[objects, 1] * coarse
    colors: Float32[np.ndarray, "H W 3"] = canvas.colors * (1 + relief)[..., None]
    return colors


def outlines(objects: Int32[np.ndarray, "H W"]) -> Mask:
    """Lines of one pixel between objects: where the pixel to the right or below is another's."""
    differs = np.zeros(objects.shape, dtype=bool)
    differs[:, :-1] |= objects[:, :-1] != objects[:, 1:]
    differs[:-1] |= objects[:-1] != objects[1:]
    return differs


def borders(objects: Int32[np.ndarray, "H W"]) -> Mask:
    """Bands of two pixels between objects: where one of the eight neighbours is another's."""
    around = np.pad(objects, 1, mode="edge")
    height, width = objects.shape
    differs = np.zeros(objects.shape, dtype=bool)
    for down in range(3):
        for across in range(3):
            differs |= around[down : down + height, across : across + width] != objects
    return differs
