"""Mask files as arrays: what their encodings mean, and which are refused.

A mask comes out as its file stores it: grey levels, palette indices or colours, never what a viewer
would make of them.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from truemask.datasets.decoding import frames, load, open_image, orientation, raw_mode, turn
from truemask.datasets.reading import is_grey, without_alpha
from truemask.errors import UsageError

GREY_STEPS = {"L;2": 85, "L;4": 17}
"""The step between grey levels of less than 8 bits, as Pillow spreads them over 0 to 255."""


def read_mask_raw(path: Path, *, colors: bool = False) -> Shaped[np.ndarray, "H W *C"]:
    """Read a mask file as it is stored.

    Args:
        path: a PNG, TIFF, lossless WebP, GIF or BMP file.
        colors: give the colours that a viewer shows, also for a palette or a grey file.

    Returns:
        (H, W) uint8 or uint16: the palette's indices (of a GIF of greys the levels), the grey
        levels as numbers 0 to 2^bits - 1, or the common value of three equal channels; (H, W, 3)
        uint8 for a coloured mask, or if `colors`.

    Raises:
        UsageError: the file is unreadable, was compressed with loss (as JPEG does), is partly
            transparent, or holds something else than integers.
    """
    with open_image(path) as image:
        return read_open_mask(image, path, colors=colors)


def read_open_mask(
    image: ImageFile, path: Path, *, colors: bool = False
) -> Shaped[np.ndarray, "H W *C"]:
    """`read_mask_raw` of a file that `open_image` has opened."""
    _refuse_loss(image, path)
    if frames(image, path) > 1:
        raise UsageError(f"{path} holds {frames(image, path)} images: a mask file must hold one")
    raw = raw_mode(image)
    if ";16" in raw and image.mode in ("RGB", "RGBA"):
        raise UsageError(f"{path} holds colours of 16 bits a channel: save it with 8")
    load(image, path)
    return turn(
        _mask_colors(image, path) if colors else _mask_values(image, path, raw),
        orientation(image, path),
    )


def _mask_values(image: ImageFile, path: Path, raw: str) -> Shaped[np.ndarray, "H W *C"]:
    if is_grey_gif(image):
        return _mask_colors(image, path)[..., 0]
    if image.mode in ("1", "L", "P"):
        values: UInt8[np.ndarray, "H W"] = np.array(image).astype(np.uint8, copy=False)
        # Otherwise class 1 of a 2-bit file would be 85.
        return values // GREY_STEPS[raw] if raw in GREY_STEPS else values
    if image.mode in ("I;16", "I;16B", "I;16L"):
        return np.array(image).astype(np.uint16)
    if image.mode == "I":
        return _narrow(np.array(image), path)
    pixels = _mask_colors(image, path)
    return pixels[..., 0] if is_grey(pixels) else pixels


def is_grey_gif(image: ImageFile) -> bool:
    """Whether a GIF, which has no grey mode, stands for grey levels by a palette of greys.

    Its indices mean nothing: programs keep only the levels that occur in a file, so that index 0 is
    black in one and white in another.
    """
    if not isinstance(image, GifImageFile) or image.mode != "P":
        return False
    used = palette_of(image)[np.unique(np.array(image))]
    return is_grey(used)


def _mask_colors(image: ImageFile, path: Path) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode in ("LA", "RGBA"):
        pixels = np.array(image.convert("RGBA"))
        return without_alpha(pixels, path, opaque=255)
    if image.mode == "P":
        # Four times as fast as indexing by the array.
        colors: UInt8[np.ndarray, "H W 3"] = palette_of(image).take(np.array(image), axis=0)
        return colors
    if image.mode in ("1", "L", "RGB"):
        return np.array(image.convert("RGB"))
    raise UsageError(
        f"{path} holds no labels that can be read (Pillow calls its pixels {image.mode!r}): save "
        "it as a palette, an 8 or 16-bit grey, or an RGB image"
    )


def palette_of(image: ImageFile) -> UInt8[np.ndarray, "256 3"]:
    """The colour of every index of a palette image; black beyond the end of its palette."""
    colors = np.zeros((256, 3), dtype=np.uint8)
    listed = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    colors[: len(listed)] = listed
    return colors


def _narrow(values: Int[np.ndarray, "H W"], path: Path) -> Shaped[np.ndarray, "H W"]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise UsageError(f"{path} holds values from {low} to {high}: labels lie in 0 to 65535")
    return values.astype(np.uint16)


def lossy_kind(image: ImageFile, path: Path) -> str:
    """What makes a file one of lossy compression, such as "a JPEG file"; "" for others."""
    if isinstance(image, JpegImageFile):
        return (
            "a JPEG file"
            if path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")
            else f"a JPEG file in spite of its ending {path.suffix}"
        )
    if isinstance(image, TiffImageFile) and "jpeg" in str(image.info.get("compression", "")):
        return "a TIFF file compressed as JPEG"
    if isinstance(image, WebPImageFile) and _is_lossy_webp(path):
        return "a lossy WebP file"
    return ""


def _refuse_loss(image: ImageFile, path: Path) -> None:
    """Refuse masks whose compression has made labels that do not exist."""
    if kind := lossy_kind(image, path):
        raise UsageError(
            f"{path} is {kind}: such compression blurs a mask into labels that do not exist; "
            "export the masks again from their source as PNG (converting this file would keep the "
            "damage)"
        )


def _is_lossy_webp(path: Path) -> bool:
    """Whether the first chunk of pixels is of the lossy kind, "VP8 ", and not "VP8L"."""
    data = path.read_bytes()
    place = 12
    while place + 8 <= len(data):
        name = data[place : place + 4]
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return False
