"""Writing the files of generated datasets: photographs, masks, names."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.miniatures.scenes import generator


def save_photo(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an RGB photograph as JPEG or PNG, by the path's ending; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        Image.fromarray(image).save(path, quality=92)
    else:
        Image.fromarray(image).save(path, compress_level=3)


def save_mask(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[Any]]) -> None:
    """Write a mask as it is: 8 or 16 bits (H, W), or colours (H, W, 3 or 4)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def save_palette_mask(
    path: Path, ids: UInt8[np.ndarray, "H W"], palette: UInt8[np.ndarray, "colors 3"]
) -> None:
    """Write a mask whose values are places in a palette, as PNG or GIF by the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.frombytes("P", (ids.shape[1], ids.shape[0]), ids.tobytes())
    picture.putpalette(palette.tobytes())
    picture.save(path, optimize=False)


def hexadecimal(seed: int, digits: int, *address: str | int) -> str:
    """A name that says nothing, the same whenever it is asked for."""
    return generator(seed, "name", *address).bytes(16).hex()[:digits]
