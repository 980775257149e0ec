"""What a training predicts on a few fixed images, one strip of small pictures a validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.files import atomic_path, make_folder
from truemask.labels import LabelMap

HEIGHT = 160
"""Height of a strip in pixels."""

_GAP = 4

Picture = tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]
"""An RGB image, its mask, and what is predicted (class ids)."""


def write_pictures(
    folder: Path, pictures: Sequence[Picture], *, step: int, labels: LabelMap
) -> None:
    """Write `step-<step>.png`, beside `image.png` and `truth.png`, which stay the same.

    Args:
        folder: made where it is missing.
        pictures: in the same order every time.
        step: optimiser steps behind the predictions.
        labels: for the colours.

    Raises:
        UsageError: the folder cannot be written.
    """
    make_folder(folder)
    strips = {
        "image": [image for image, _, _ in pictures],
        "truth": [labels.colorize(truth) for _, truth, _ in pictures],
        f"step-{step:07d}": [labels.colorize(ids) for _, _, ids in pictures],
    }
    for name, cells in strips.items():
        smooth = Image.Resampling.BILINEAR if name == "image" else Image.Resampling.NEAREST
        with atomic_path(folder / f"{name}.png") as temporary:
            _strip(cells, smooth).save(temporary, format="PNG", optimize=True)


def _strip(
    cells: Sequence[UInt8[np.ndarray, "H W 3"]], resampling: Image.Resampling
) -> Image.Image:
    small = []
    for cell in cells:
        width = max(1, round(cell.shape[1] * HEIGHT / cell.shape[0]))
        small.append(Image.fromarray(cell).resize((width, HEIGHT), resampling))
    width = sum(picture.width for picture in small) + _GAP * (len(small) - 1)
    strip = Image.new("RGB", (width, HEIGHT), (255, 255, 255))
    left = 0
    for picture in small:
        strip.paste(picture, (left, 0))
        left += picture.width + _GAP
    return strip
