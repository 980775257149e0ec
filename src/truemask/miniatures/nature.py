"""Generated landscapes with animals and stones, outlined by several people, as in BSDS500."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8, UInt16

from truemask.miniatures.scenes import (
    Canvas,
    Rgb,
    ellipse,
    noise,
    outlines,
    rectangle,
    shade,
    textured,
    through_lens,
    varied,
)

# How likely somebody outlines a region of each level: a layer of the land, a thing in it, a part.
_OUTLINED = (0.97, 0.9, 0.4)
_LANDS: tuple[tuple[Rgb, ...], ...] = (
    ((136, 164, 204), (150, 160, 180), (110, 130, 120), (96, 112, 70), (120, 116, 74)),
    ((200, 206, 212), (120, 132, 150), (84, 108, 120), (70, 96, 110), (150, 138, 112)),
    ((212, 170, 130), (150, 110, 100), (110, 84, 76), (90, 80, 60), (126, 100, 70)),
    ((120, 140, 110), (70, 92, 58), (92, 110, 60), (112, 116, 74), (84, 96, 50)),
)
_THINGS: tuple[Rgb, ...] = (
    (120, 80, 52), (60, 56, 54), (206, 198, 184), (150, 146, 140), (180, 70, 60), (220, 190, 80),
    (90, 110, 60), (70, 84, 110),
)  # fmt: skip


@dataclass(frozen=True)
class Outlined:
    """A photograph and what people drew on it.

    Attributes:
        image: (H, W, 3).
        boundaries: how many people drew a boundary through each pixel.
        first: the first one's regions, from 1.
        people: how many drew.
    """

    image: UInt8[np.ndarray, "H W 3"]
    boundaries: UInt8[np.ndarray, "H W"]
    first: UInt16[np.ndarray, "H W"]
    people: int


def draw_landscape(random: np.random.Generator, *, width: int, height: int) -> Outlined:
    """A landscape in layers with things in it, and the outlines that 4 to 8 people drew."""
    painter = _Painter(Canvas(width, height), random)
    painter.paint_layers()
    for _ in range(int(random.integers(1, 5))):
        painter.paint_thing()
    colors = textured(painter.canvas, random, painter.textures)
    image = through_lens(colors, random, blur=0.5, grain=3.0)
    people = int(random.choice((4, 5, 6, 7, 8), p=(0.1, 0.5, 0.25, 0.1, 0.05)))
    drawn = [painter.annotate() for _ in range(people)]
    boundaries = np.sum([outlines(one) for one in drawn], axis=0).astype(np.uint8)
    first = np.unique(drawn[0], return_inverse=True)[1].reshape(height, width) + 1
    return Outlined(image, boundaries, first.astype(np.uint16), people)


class _Painter:
    """Paints regions, and remembers of each what it is a part of and how clear it is."""

    def __init__(self, canvas: Canvas, random: np.random.Generator) -> None:
        self.canvas, self.random = canvas, random
        self.parents = [0]
        self.levels = [0]
        self.textures = [(0.05, 0.05)]

    def begin(self, parent: int, level: int) -> int:
        """A new region; a parent is what somebody sees who does not see the region."""
        self.canvas.start(level)
        self.parents.append(parent)
        self.levels.append(level)
        self.textures.append(tuple(self.random.uniform((0.02, 0.02), (0.16, 0.12)).tolist()))
        return len(self.parents) - 1

    def paint_layers(self) -> None:
        height, width = self.canvas.height, self.canvas.width
        colors = _LANDS[int(self.random.integers(len(_LANDS)))]
        count = int(self.random.integers(2, 5))
        starts = np.sort(self.random.uniform(0.15, 0.8, count)) * height
        for layer in range(count + 1):
            number = self.begin(0, 0)
            self.parents[number] = max(number - 1, 1)
            color = varied(colors[min(layer, len(colors) - 1)], self.random, 14)
            if layer == 0:
                self.canvas.polygon(rectangle(-1, -1, width, height), color)
                continue
            x = np.linspace(-2, width + 2, 40)
            rough = float(self.random.uniform(0.015, 0.06)) * height
            top = starts[layer - 1] + noise(self.random, 2, 40, (2, 40 / 6))[0] * rough
            top = top + noise(self.random, 2, 40, (2, 2))[0] * rough * 0.2
            line = list(zip(x.tolist(), top.tolist(), strict=True))
            self.canvas.polygon([*line, (width + 2, height), (-2, height)], color)

    def paint_thing(self) -> None:
        """Something roundish, with a part of another colour."""
        height, width = self.canvas.height, self.canvas.width
        x = float(self.random.uniform(0.12, 0.88)) * width
        y = float(self.random.uniform(0.35, 0.85)) * height
        size = float(self.random.uniform(0.08, 0.26)) * height
        color = varied(_THINGS[int(self.random.integers(len(_THINGS)))], self.random, 16)
        beneath = int(self.canvas.objects[min(int(y), height - 1), min(int(x), width - 1)])
        body = self.begin(beneath, 1)
        self._blob(x, y, size, color)
        for _ in range(int(self.random.integers(0, 3))):
            self.begin(body, 2)
            shift = self.random.uniform(-0.6, 0.6, 2) * size
            light = float(self.random.choice((0.7, 1.3)))
            part = size * float(self.random.uniform(0.3, 0.5))
            self._blob(x + float(shift[0]), y + float(shift[1]), part, shade(color, light))

    def _blob(self, x: float, y: float, size: float, color: Rgb) -> None:
        across = float(self.random.uniform(0.8, 1.5))
        smooth = ellipse((0, 0), (size * across, size), 28, float(self.random.uniform(0, 3.1)))
        ripple = 1 + 0.13 * noise(self.random, 2, 28, (2, 4))[0]
        points = [(x + a * r, y + b * r) for (a, b), r in zip(smooth, ripple.tolist(), strict=True)]
        self.canvas.polygon(points, color)

    def annotate(self) -> Int32[np.ndarray, "H W"]:
        """The regions that one person sees, whose hand is a pixel off here and there."""
        chances = np.array(_OUTLINED)[self.levels]
        seen = self.random.uniform(size=len(chances)) < chances
        final = np.arange(len(self.parents), dtype=np.int32)
        for number in range(2, len(final)):
            if not seen[number]:
                final[number] = final[self.parents[number]]
        regions = final[self.canvas.objects]
        height, width = regions.shape
        down, across = (np.rint(noise(self.random, height, width, 7) * 0.9) for _ in range(2))
        rows = np.clip(np.arange(height)[:, None] + down, 0, height - 1).astype(np.int64)
        columns = np.clip(np.arange(width)[None, :] + across, 0, width - 1).astype(np.int64)
        moved: Int32[np.ndarray, "H W"] = regions[rows, columns]
        return moved
