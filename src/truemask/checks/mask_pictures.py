"""Small pictures of samples: the image with the borders of its mask, and the mask in colours."""

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from truemask.checks.alignment import border_of
from truemask.checks.probe import Probe
from truemask.labels import default_colors

_WIDE, _HIGH = 256, 256
"""The most that one of two pictures beside each other may have."""

_COLORS = np.array(default_colors(tuple(f"class {k}" for k in range(24))), dtype=np.uint8)
_RED = (255, 40, 40)

Picture = UInt8[np.ndarray, "H W 3"]


def side_by_side(probe: Probe) -> Picture:
    """The image with the mask's borders in red, and the mask in colours; at most 256 x 512."""
    shown = []
    if probe.image is not None:
        image = _rgb(probe.image)
        if probe.fits and probe.mask is not None:
            image = image.copy()
            image[border_of(probe.mask)] = _RED
        shown.append(_small(image, Image.Resampling.BOX))
    if probe.mask is not None:
        shown.append(_small(colored(probe.mask), Image.Resampling.NEAREST))
    high = max((picture.shape[0] for picture in shown), default=1)
    padded = [np.pad(one, ((0, high - one.shape[0]), (0, 0), (0, 0))) for one in shown]
    return np.concatenate(padded, 1) if padded else np.zeros((1, 1, 3), np.uint8)


def colored(mask: Shaped[np.ndarray, "H W *C"]) -> Picture:
    """Each value in a colour of its own."""
    if mask.ndim == 3:
        return mask.astype(np.uint8)
    values, places = np.unique(mask, return_inverse=True)
    picture = _COLORS[np.arange(len(values)) % len(_COLORS)][places.reshape(mask.shape)]
    return np.asarray(picture)


def heatmap(shares: Float[np.ndarray, "H W"]) -> Picture:
    """Shares from 0 (black) over red to 1 (white), at twice the size."""
    value = np.clip(shares, 0, 1)[..., None] * np.array([3.0, 3.0, 3.0]) - np.array([0.0, 1.0, 2.0])
    picture = (np.clip(value, 0, 1) * 255).astype(np.uint8)
    return np.asarray(picture.repeat(2, 0).repeat(2, 1))


def _rgb(image: Shaped[np.ndarray, "H W C"]) -> Picture:
    if image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float32))
        low, high = float(values.min()), float(values.max())
        image = ((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def _small(picture: Picture, how: Image.Resampling) -> Picture:
    image = Image.fromarray(np.ascontiguousarray(picture))
    scale = min(_WIDE / image.width, _HIGH / image.height, 1)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, how))
