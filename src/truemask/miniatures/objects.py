"""Generated photographs of objects, as in PASCAL VOC and among the Oxford pets."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8

from truemask.miniatures.scenes import (
    Canvas,
    Point,
    Rgb,
    blend,
    ellipse,
    layered,
    noise,
    rectangle,
    shade,
    textured,
    through_lens,
    to_bytes,
    varied,
)
from truemask.miniatures.shapes import SHAPES, Role, Shape

VOC_CLASSES = tuple(SHAPES)
"""The 20 classes of PASCAL VOC in the order of their ids, which begin with 1."""

# What is often seen beside an object of a class.
_COMPANY = {
    "bicycle": ("person", "bicycle"), "horse": ("person", "horse"), "motorbike": ("person", "car"),
    "car": ("car", "person"), "bus": ("car", "person"), "dog": ("person", "dog"),
    "chair": ("diningtable", "chair"), "diningtable": ("chair", "bottle"),
    "sofa": ("person", "cat"),
    "sheep": ("sheep", "sheep"), "cow": ("cow", "person"), "bird": ("bird", "bird"),
    "tvmonitor": ("chair", "bottle"), "bottle": ("bottle", "person"), "person": ("person", "chair"),
    "boat": ("boat", "person"), "train": ("person",), "pottedplant": ("chair", "pottedplant"),
    "cat": ("sofa", "chair"), "aeroplane": ("aeroplane", "person"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Style:
    """What pictures of one origin share.

    Attributes:
        size: of the objects, relative to the usual one.
        company: how many objects there are beside the first, on average.
        clutter: how many things there are that are no object of any class, on average.
        contrast: 1 leaves the colours as they are.
        tint: what each colour channel is multiplied with.
        grain: of the sensor.
    """

    size: float = 1.0
    company: float = 0.9
    clutter: float = 5.0
    contrast: float = 1.0
    tint: Rgb = (1.0, 1.0, 1.0)
    grain: float = 3.0


@dataclass(frozen=True)
class ObjectPicture:
    """A photograph of objects.

    Attributes:
        image: (H, W, 3).
        objects: the number of the object that each pixel shows; 0 is the background.
        classes: the class of each pixel, from 1; 0 is the background.
    """

    image: UInt8[np.ndarray, "H W 3"]
    objects: Int32[np.ndarray, "H W"]
    classes: UInt8[np.ndarray, "H W"]


def draw_objects(
    random: np.random.Generator, main: str, *, width: int, height: int, style: Style
) -> ObjectPicture:
    """A picture with an object of a class, and others that often come with it."""
    canvas = Canvas(width, height)
    scene = SHAPES[main].scene
    ground = _paint_scene(canvas, scene, random, style.clutter)
    names = [main]
    for _ in range(min(int(random.poisson(style.company)), 4)):
        near = _COMPANY[main]
        names.append(near[int(random.integers(len(near)))])
    crowd = 1.0 / (1 + 0.18 * (len(names) - 1))
    places = random.permutation(len(names))
    textures = [_ROUGHNESS[scene]]
    for order, name in zip(places.tolist(), reversed(names), strict=True):
        shape = SHAPES[name]
        tall = shape.size * height * style.size * crowd * float(np.exp(random.normal(0, 0.2)))
        tall = min(tall, 1.1 * width / shape.aspect)
        column = (order + 0.5 + random.uniform(-0.3, 0.3)) / len(names) * width
        row = min(ground + random.uniform(0.05, 0.28) * height, height * 1.03) - tall / 2
        if scene in ("sky", "water") and shape.scene == scene:
            row = ground + random.uniform(-0.32, 0.05) * height
        row = max(row, 0.44 * tall)
        canvas.start(VOC_CLASSES.index(name) + 1)
        textures.append((shape.fine, shape.coarse))
        _paint_shape(canvas, shape, random, (column, row), tall)
    return _finish(canvas, textures, random, style)


def draw_pet(
    random: np.random.Generator, breed: int, cat: bool, *, width: int, height: int
) -> ObjectPicture:
    """A picture of one cat or dog, whose colour and build are those of its breed."""
    canvas = Canvas(width, height)
    place = ("room", "grass", "room", "road")[int(random.integers(4))]
    ground = _paint_scene(canvas, place, random, 4.0)
    shape = SHAPES["cat" if cat else "dog"]
    own = np.random.default_rng([77, breed])
    coat = shape.colors[breed % len(shape.colors)]
    coat = varied(coat, own, 16)
    tall = height * float(random.uniform(0.62, 0.95)) * float(own.uniform(0.9, 1.1))
    tall = min(tall, 1.05 * width / shape.aspect)
    row = max(min(ground + 0.3 * height, height * 1.04) - tall / 2, 0.46 * tall)
    canvas.start(1)
    at = (width * float(random.uniform(0.36, 0.64)), row)
    stretch = float(own.uniform(0.85, 1.2))
    _paint_shape(canvas, shape, random, at, tall, coat=varied(coat, random, 8), stretch=stretch)
    furry = (shape.fine * float(own.uniform(0.6, 1.6)), shape.coarse * float(own.uniform(0.5, 2)))
    return _finish(canvas, [_ROUGHNESS[place], furry], random, Style())


def _paint_shape(
    canvas: Canvas,
    shape: Shape,
    random: np.random.Generator,
    center: Point,
    tall: float,
    *,
    coat: Rgb | None = None,
    stretch: float = 1.0,
) -> None:
    """Paint an object: turned, mirrored and stretched a little, lit from one side."""
    main = coat or varied(shape.colors[int(random.integers(len(shape.colors)))], random)
    other = varied(shape.colors[int(random.integers(len(shape.colors)))], random)
    colors: dict[Role, Rgb] = {
        "main": main,
        "second": shade(blend(main, other, 0.35), 0.78),
        "dark": (34, 34, 36),
        "light": blend(main, (226, 214, 196), 0.8),
        "glass": blend((50, 58, 68), (140, 160, 176), float(random.uniform(0, 0.6))),
    }
    place = _placing(shape, random, center, tall, stretch)
    sun = float(random.uniform(-0.14, 0.14))
    for part in shape.parts:
        middle = sum(x for x, _ in part.points) / len(part.points)
        color = shade(colors[part.role], 1 + sun * middle)
        points = [place(point) for point in part.points]
        if part.width:
            canvas.line(points, color, part.width * tall / 2)
        else:
            canvas.polygon(points, color)


def _placing(
    shape: Shape, random: np.random.Generator, center: Point, tall: float, stretch: float
) -> Callable[[Point], Point]:
    """Where the points of a shape lie in the picture."""
    half_height = tall / 2
    half_width = half_height * shape.aspect * stretch * float(np.exp(random.normal(0, 0.09)))
    mirror = 1.0 if random.uniform() < 0.5 else -1.0
    turn, shear = float(random.normal(0, 0.07)), float(random.normal(0, 0.08))
    cos, sin = float(np.cos(turn)), float(np.sin(turn))

    def place(point: Point) -> Point:
        x, y = (point[0] + shear * point[1]) * half_width * mirror, point[1] * half_height
        return center[0] + x * cos - y * sin, center[1] - x * sin - y * cos

    return place


def _paint_scene(canvas: Canvas, scene: str, random: np.random.Generator, clutter: float) -> float:
    """Paint the background, and return the row on which things stand."""
    height, width = canvas.height, canvas.width
    upper, lower = _SCENES[scene]
    horizon = height * float(random.uniform(0.45, 0.68))
    top = np.array(varied(upper[int(random.integers(len(upper)))], random, 16), dtype=np.float32)
    low = np.array(varied(lower[int(random.integers(len(lower)))], random, 16), dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    waves = noise(random, 2, width, (2, width / 5))[:1] * (0 if scene == "room" else 0.02 * height)
    below = np.clip(rows - horizon - waves, 0, 1)[..., None]
    light = 1 + 0.06 * layered(random, height, width, (width / 2, width / 6))[..., None]
    colors = (top + (low - top) * below) * light * (0.9 + 0.2 * (rows / height)[..., None])
    canvas.fill(to_bytes(colors))
    for _ in range(int(random.poisson(clutter))):
        _paint_clutter(canvas, scene, random, horizon)
    return horizon


def _paint_clutter(canvas: Canvas, scene: str, random: np.random.Generator, horizon: float) -> None:
    """Something of no class: a picture on the wall, a stone, a bush, a cloud."""
    height, width = canvas.height, canvas.width
    x = float(random.uniform(0, width))
    size = float(random.uniform(0.04, 0.16)) * height
    form = random.uniform()
    if scene in ("sky", "water"):
        y, form = float(random.uniform(0, horizon)), 0.9
        color: Rgb = varied((206, 210, 216), random, 14)
    else:
        y = horizon + float(random.uniform(-0.45, 0.25)) * height
        color = tuple(random.uniform(40, 200, 3).tolist())
        color = blend(color, (120, 112, 100), 0.55)
    if form < 0.45:
        points = rectangle(x - size, y - size * 0.8, x + size, y + size * 0.8)
    elif form < 0.65:
        points = rectangle(x - size * 0.25, y - size * 2.2, x + size * 0.25, y + size)
    else:
        points = ellipse((x, y), (size * 1.3, size * 0.6), 12, float(random.uniform(-0.3, 0.3)))
    canvas.detail(points, color)
    if form < 0.45 and scene == "room":
        inner = rectangle(x - size * 0.75, y - size * 0.6, x + size * 0.75, y + size * 0.6)
        canvas.detail(inner, blend(color, (220, 214, 200), 0.5))


_SCENES: dict[str, tuple[tuple[Rgb, ...], tuple[Rgb, ...]]] = {
    "sky": (((130, 164, 206), (176, 192, 206), (200, 204, 208)), ((104, 112, 80), (140, 160, 190))),
    "water": (((150, 176, 204), (196, 202, 206)), ((84, 104, 116), (70, 96, 96), (110, 124, 130))),
    "grass": (((110, 124, 96), (160, 180, 196), (84, 100, 70)), ((104, 122, 66), (124, 122, 76))),
    "road": (
        ((150, 140, 130), (170, 180, 186), (120, 110, 100)),
        ((112, 110, 108), (136, 130, 120)),
    ),
    "room": (
        ((186, 172, 150), (150, 156, 150), (170, 146, 126)),
        ((130, 100, 74), (120, 112, 106)),
    ),
}


# Strength of the background's fine and coarse texture.
_ROUGHNESS = {"sky": (0.02, 0.03), "water": (0.05, 0.05), "grass": (0.11, 0.08),
              "road": (0.06, 0.05), "room": (0.04, 0.05)}  # fmt: skip


def _finish(
    canvas: Canvas,
    textures: list[tuple[float, float]],
    random: np.random.Generator,
    style: Style,
) -> ObjectPicture:
    """Textures, the style's colours, and the camera's lens."""
    colors = textured(canvas, random, textures)
    colors = ((colors - 118) * style.contrast + 118) * np.array(style.tint, dtype=np.float32)
    image = through_lens(colors.astype(np.float32), random, blur=0.45, grain=style.grain)
    return ObjectPicture(image, canvas.objects, canvas.classes)
