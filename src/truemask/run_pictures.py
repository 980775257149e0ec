"""What a training predicts on a few fixed images, one strip of small pictures a validation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.errors import UsageError
from truemask.files import atomic_path, make_folder
from truemask.labels import LabelMap

HEIGHT = 160
"""Height of a strip in pixels."""

_GAP = 4
_STEP = re.compile(r"step-(\d{1,12})\.png")
_MOST_PIXELS = HEIGHT * 40_000

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
        strip, file = _strip(cells, smooth), folder / f"{name}.png"
        # What stays the same is written once: photos take most of the time.
        if name.startswith("step") or _size(file) != strip.size:
            with atomic_path(file) as temporary:
                strip.save(temporary, format="PNG", optimize=True)


def _size(file: Path) -> tuple[int, int] | None:
    """The size of a picture that is there and can be read."""
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            return picture.size
    except (OSError, SyntaxError):
        return None


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """The strips of a training: the same images under each other.

    Attributes:
        image: the images.
        truth: their masks, in the colours of the classes.
        steps: optimiser steps -> what was predicted after these, in the same colours.
    """

    image: UInt8[np.ndarray, "160 W 3"]
    truth: UInt8[np.ndarray, "160 W 3"]
    steps: dict[int, UInt8[np.ndarray, "160 W 3"]]


def read_course(folder: Path, *, most: int) -> Course | None:
    """Read what `write_pictures` wrote; `None` where there is nothing.

    Args:
        folder: theirs.
        most: validations to read, the first and the last among them, the others evenly between.

    Raises:
        UsageError: a file is damaged, or is none that belongs there.
    """
    if not (folder / "image.png").exists():
        return None
    matches = [_STEP.fullmatch(file.name) for file in folder.iterdir()]
    files = {int(match[1]): folder / match[0] for match in matches if match is not None}
    steps = sorted(files)
    if len(steps) > most:
        places = np.linspace(0, len(steps) - 1, most).round().astype(int)
        steps = [steps[place] for place in places]
    return Course(
        image=_read(folder / "image.png"),
        truth=_read(folder / "truth.png"),
        steps={step: _read(files[step]) for step in steps},
    )


def _read(file: Path) -> UInt8[np.ndarray, "160 W 3"]:
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if picture.height != HEIGHT or picture.width * picture.height > _MOST_PIXELS:
                raise UsageError(f"{file} is {picture.size}, as no strip of a training is")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{file} cannot be read: {error}; delete it") from error
