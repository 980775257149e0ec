"""The sky of a generated street, and the photograph that is taken of it in some weather."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8

from truemask.miniatures.kinds import GROUNDS, LOOKS, Kind
from truemask.miniatures.scenes import Canvas, Mask, blend, layered, noise, through_lens, to_bytes
from truemask.miniatures.view import Light, View

_FINE = np.array([LOOKS[kind].fine if kind in LOOKS else 0 for kind in Kind], dtype=np.float32)
_COARSE = np.array([LOOKS[kind].coarse if kind in LOOKS else 0 for kind in Kind], dtype=np.float32)
_FLAT = np.array([kind in GROUNDS for kind in Kind])


def paint_sky(canvas: Canvas, view: View, light: Light, random: np.random.Generator) -> None:
    """Fill the whole picture with sky: a gradient, and clouds where the weather has some."""
    height, width = canvas.height, canvas.width
    top, low = (np.array(color, dtype=np.float32) for color in light.sky)
    down = np.clip(np.arange(height, dtype=np.float32) / max(view.horizon, 1), 0, 1)[:, None, None]
    colors = np.repeat(top + (low - top) * down, width, axis=1)
    amount = {"clear": 0.1, "partly cloudy": 0.8}.get(light.weather, 0.3)
    clouds = layered(random, height, width, (width / 3, width / 8, width / 20))
    cover = np.clip(clouds * 0.6, 0, 1)[..., None] * amount
    colors = colors + (np.float32(236) - colors) * cover
    canvas.start(Kind.SKY, 1e6)
    canvas.fill(to_bytes(colors))


def photograph(
    canvas: Canvas, view: View, light: Light, random: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture as the camera takes it: texture, weather, haze, night, lens."""
    classes = canvas.classes
    flat = _FLAT[classes]
    depth = _depths(canvas, view, flat)
    colors = canvas.colors * (1 + _texture(canvas, view, classes, flat, depth, random))[..., None]
    if light.weather == "snowy":
        cover = np.where(flat, 0.65, 0.12)[..., None].astype(np.float32)
        colors = colors + (np.float32(222) - colors) * cover
    if light.weather == "rainy":
        colors = np.where(flat[..., None], colors * 0.72 + 24, colors * 0.85)
    air = np.array(blend(*light.sky, 0.8), dtype=np.float32)
    seen = np.exp(-light.haze * np.minimum(depth, 400)).astype(np.float32)
    seen[classes == Kind.SKY] = 1.0 if light.weather != "foggy" else 0.2
    colors = air + (colors - air) * seen[..., None]
    if light.timeofday == "night":
        colors = _at_night(colors, canvas, view, depth, random)
    elif light.timeofday == "dawn/dusk":
        colors = colors * np.array((0.72, 0.6, 0.56), dtype=np.float32)
    if light.lamps_lit:
        colors = colors + _lamps(canvas)
    colors = colors + _falling(canvas, light, random)
    blur = {"rainy": 0.8, "foggy": 0.8}.get(light.weather, 0.5)
    grain = 6.0 if light.timeofday == "night" else 3.0
    return through_lens(colors, random, blur=blur, grain=grain)


def _depths(canvas: Canvas, view: View, flat: Mask) -> Float32[np.ndarray, "H W"]:
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    ground = view.focal * 1.5 / np.maximum(rows - view.horizon, 0.5)
    depths = np.array(canvas.depths, dtype=np.float32)[canvas.objects]
    chosen: Float32[np.ndarray, "H W"] = np.where(flat, ground, depths).astype(np.float32)
    return chosen


def _texture(
    canvas: Canvas,
    view: View,
    classes: UInt8[np.ndarray, "H W"],
    flat: Mask,
    depth: Float32[np.ndarray, "H W"],
    random: np.random.Generator,
) -> Float32[np.ndarray, "H W"]:
    """How much lighter or darker each pixel is than its object."""
    height, width = canvas.height, canvas.width
    fine, coarse = noise(random, height, width, 1.6), noise(random, height, width, width / 24)
    # The ground's texture lies on the ground: it is looked up by place, and passes as one drives.
    tile = _ground_tile()
    aside = (np.arange(width) - width / 2)[None, :] * depth / view.focal
    ahead = np.minimum(depth, 400) + view.travel
    looked_up = tile[(ahead * 6).astype(np.int64) % 128, (aside * 6).astype(np.int64) % 128]
    fine = np.where(flat, looked_up * np.clip(12 / depth, 0.2, 1), fine)
    relief: Float32[np.ndarray, "H W"] = _FINE[classes] * fine + _COARSE[classes] * coarse
    return relief


@lru_cache(maxsize=1)
def _ground_tile() -> Float32[np.ndarray, "128 128"]:
    return noise(np.random.default_rng(128), 128, 128, 2.0)


def _at_night(
    colors: Float32[np.ndarray, "H W 3"],
    canvas: Canvas,
    view: View,
    depth: Float32[np.ndarray, "H W"],
    random: np.random.Generator,
) -> Float32[np.ndarray, "H W 3"]:
    """Darkness, and the cone of the car's own headlights."""
    height, width = canvas.height, canvas.width
    across = (np.arange(width, dtype=np.float32) / width - 0.5)[None, :]
    below = np.clip((np.arange(height, dtype=np.float32) - view.horizon) / height + 0.12, 0, 1)
    cone = np.exp(-((across / 0.28) ** 2)) * np.clip(below * 4, 0, 1)[:, None]
    reach = np.exp(-depth / 45) * cone * random.uniform(0.5, 0.8)
    dark = random.uniform(0.2, 0.34) * np.array((0.9, 0.92, 1.06), dtype=np.float32)
    lit = np.array((1.0, 0.96, 0.84), dtype=np.float32) * reach[..., None]
    return (colors * (dark + lit)).astype(np.float32)


def _lamps(canvas: Canvas) -> Float32[np.ndarray, "H W 3"]:
    """The light around each lamp, as far as it can be seen."""
    light = np.zeros((canvas.height, canvas.width, 3), dtype=np.float32)
    for (x, y), radius, color in canvas.glows:
        reach = 2.6 * radius
        top, left = max(int(y - reach), 0), max(int(x - reach), 0)
        down = np.arange(top, min(int(y + reach) + 2, canvas.height), dtype=np.float32)
        across = np.arange(left, min(int(x + reach) + 2, canvas.width), dtype=np.float32)
        near = np.exp(-((down - y) ** 2) / radius**2)[:, None]
        near = near * np.exp(-((across - x) ** 2) / radius**2)
        part = light[top : top + len(down), left : left + len(across)]
        part += near[..., None] * np.array(color, dtype=np.float32)
    return light


def _falling(
    canvas: Canvas, light: Light, random: np.random.Generator
) -> Float32[np.ndarray, "H W 1"] | float:
    """Flakes or streaks in front of everything."""
    height, width = canvas.height, canvas.width
    if light.weather == "snowy":
        flakes = noise(random, height, width, 1.3) > 2.9
        return (flakes * np.float32(110))[..., None]
    if light.weather == "rainy":
        return (noise(random, height, width, (9.0, 1.5)) * np.float32(4))[..., None]
    return 0.0
