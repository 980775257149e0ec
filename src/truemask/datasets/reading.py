"""Image and mask files as arrays: what their many encodings mean, and which are refused.

Images come out as their `ImageSpec` declares them, or not at all; nothing is guessed. A mask comes
out as its file stores it: grey levels, palette indices or colours, never what a viewer would make
of them.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Int64, Shaped, UInt8
from PIL import ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torchvision import tv_tensors

from truemask.channels import ChannelSums
from truemask.datasets.decoding import (
    Content,
    Frame,
    ImageSource,
    frames,
    load,
    load_shrunk,
    load_wide,
    mode_of,
    open_image,
    orientation,
    raw_mode,
    turn,
)
from truemask.datasets.measuring import spots_of, spots_of_image, spots_of_picture
from truemask.errors import UsageError, counted
from truemask.images import ImageSpec, resize_image

GREY_STEPS = {"L;2": 85, "L;4": 17}
"""The step between grey levels of less than 8 bits, as Pillow spreads them over 0 to 255."""

TWELVE_BITS = 4095
"""The largest value of the cameras that store 12 bits in 16."""


def read_image(
    path: ImageSource, spec: ImageSpec, *, size: tuple[int, int] | None = None
) -> tv_tensors.Image:
    """Read an image file.

    Grey and colour become each other where no information is lost, palettes and CMYK become RGB,
    16 bits a channel are scaled to the range of `spec`, and an EXIF orientation is applied.
    Transparency is dropped where the image is opaque and refused elsewhere: compositing would have
    to invent a background, and the colours under a cut-out are not what its maker saw.

    Args:
        path: a JPEG, PNG, TIFF, WebP, GIF or BMP file, or its content.
        spec: the channels (1 or 3), dtype and range to deliver. For float32, a file's own range is
            mapped linearly to [low, high]; a file of floats is taken as it is.
        size: height and width to which the image is brought; None leaves it as it is. A JPEG that
            is much larger is decoded at a half, a quarter or an eighth (see `load_shrunk`).

    Returns:
        (C, H, W) of `spec.dtype`.

    Raises:
        UsageError: the file is unreadable, or cannot be brought to `spec` without a guess.
    """
    return read_image_and_frame(path, spec, size=size)[0]


def read_image_and_frame(
    path: ImageSource, spec: ImageSpec, *, size: tuple[int, int] | None = None
) -> tuple[tv_tensors.Image, Frame]:
    """What `read_image` gives, and how the whole picture lies in its file."""
    with open_image(path) as image:
        if frames(image, path) > 1:
            raise UsageError(
                f"{path} holds {frames(image, path)} images: save the one that is meant"
            )
        stored = (image.height, image.width)
        small = load_shrunk(image, path, size) if size and _may_shrink(image, spec) else None
        pixels = _pixels(image, path) if small is None else _samples(small, path)
        turned = orientation(image, path)
    pixels = turn(pixels, turned)
    pixels = fit_samples(pixels, path, spec)
    # A view with a step of -1, from a turned image, is something that torch cannot hold.
    values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    if size is not None and tuple(values.shape[-2:]) != size:
        values = resize_image(values, size)
    return tv_tensors.Image(values), Frame(stored, turned)


def read_picture(picture: Image, spec: ImageSpec) -> tv_tensors.Image:
    """What `read_image` gives of a file, of an image of Pillow; of several frames the current one.

    Raises:
        UsageError: the image cannot be decoded, or brought to `spec` without a guess.
    """
    said = Content(b"", "the image")
    if isinstance(picture, ImageFile):
        load(picture, said)
    pixels = fit_samples(_samples(ImageOps.exif_transpose(picture), said), said, spec)
    return tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))


def read_measured(
    path: Path, spec: ImageSpec
) -> tuple[ChannelSums, Frame, str, Shaped[np.ndarray, "h w C"] | None]:
    """What `read_image` gives, measured.

    Of plain images of bytes no array is made, which takes nearly as long as decoding them.

    Returns:
        The sums of the values, how the picture lies in its file, the mode of its pixels, and the
        values at some spots, as `Measured` has them.

    Raises:
        UsageError: as `read_image`.
    """
    with open_image(path) as image:
        mode = mode_of(image)
        counts = _histogram(image, path, spec)
        if counts is not None:
            turned = orientation(image, path)
            few = (
                spots_of_picture(image)
                if turned == 1
                else spots_of(turn(np.atleast_3d(np.asarray(image)), turned))
            )
            few = few if few.shape[2] == spec.channels else np.repeat(few, spec.channels, axis=2)
            frame = Frame((image.height, image.width), turned)
            return ChannelSums.of_histogram(counts), frame, mode, few
    values, frame = read_image_and_frame(path, spec)
    return ChannelSums.of(values, spec), frame, mode, spots_of_image(values, spec)


def _histogram(image: ImageFile, path: Path, spec: ImageSpec) -> Int64[np.ndarray, "C 256"] | None:
    """How often each value occurs, of an image that `read_image` takes as it is; else None."""
    bands = {"L": 1, "RGB": 3}.get(image.mode, 0)
    plain = spec.dtype == "uint8" and ";" not in raw_mode(image) and bands in (1, spec.channels)
    if not plain or spec.channels not in (1, 3) or frames(image, path) > 1:
        return None
    _refuse_extra_channels(image, path)
    load(image, path)
    if image.has_transparency_data:
        return None
    counts = np.array(image.histogram(), np.int64).reshape(bands, 256)
    return np.repeat(counts, spec.channels // bands, axis=0)


def _may_shrink(image: ImageFile, spec: ImageSpec) -> bool:
    """Whether no check needs every pixel: a coloured spot, where grey is asked for, may vanish."""
    return image.mode == "L" or spec.channels == 3


def _pixels(image: ImageFile, path: ImageSource) -> Shaped[np.ndarray, "H W *C"]:
    """Grey or RGB samples at the depth of the file, without an alpha channel."""
    _refuse_extra_channels(image, path)
    if ";16" in raw_mode(image) and image.mode in ("RGB", "RGBA"):
        load(image, path)  # For an EXIF orientation that stands behind the pixels.
        wide = load_wide(path)
        return _without_alpha(wide, path, opaque=65535) if wide.shape[2] in (2, 4) else wide
    load(image, path)
    return _samples(image, path)


def _samples(image: Image, path: ImageSource) -> Shaped[np.ndarray, "H W *C"]:
    """Grey or RGB samples of a decoded image."""
    if image.mode in ("I;16", "I;16B", "I;16L"):
        return np.array(image).astype(np.uint16)
    if image.mode == "F":
        return np.array(image)
    if image.has_transparency_data:
        return _without_alpha(np.array(image.convert("RGBA")), path, opaque=255)
    if image.mode in ("L", "RGB"):
        return np.array(image)
    if image.mode == "1":
        return np.array(image.convert("L"))
    if image.mode in ("P", "CMYK", "YCbCr"):
        return np.array(image.convert("RGB"))
    raise UsageError(
        f"{path} holds pixels of a kind that is not read (Pillow calls it {image.mode!r}): save "
        "it as 8-bit RGB or grey"
    )


def _refuse_extra_channels(image: ImageFile, path: ImageSource) -> None:
    if not isinstance(image, TiffImageFile):
        return
    channels = image.tag_v2.get(277, 1)  # SamplesPerPixel
    if channels > len(image.getbands()):
        raise UsageError(
            f"{path} has {channels} channels, of which only {len(image.getbands())} can be read: "
            "save it as RGB or grey"
        )


def _without_alpha(
    pixels: Shaped[np.ndarray, "H W C"], path: ImageSource, *, opaque: int
) -> Shaped[np.ndarray, "H W *C"]:
    transparent = int(np.count_nonzero(pixels[..., -1] != opaque))
    if transparent > 0:
        raise UsageError(
            f"{path} has {counted(transparent, 'transparent pixel')}, and what lies behind is "
            "unknown: save it without transparency"
        )
    return pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :-1]


def fit_samples(
    pixels: Shaped[np.ndarray, "H W *C"],
    path: ImageSource,
    spec: ImageSpec,
    *,
    scale_known: bool = False,
) -> Shaped[np.ndarray, "H W C"]:
    """What `read_image` makes of grey or RGB samples, but for their order.

    Args:
        pixels: uint8, uint16 or float32, as they are stored.
        path: for the message of an error.
        spec: the channels, dtype and range to deliver.
        scale_known: whether 16 bits are known to be used, though these samples need not show it.

    Raises:
        UsageError: they cannot be brought to `spec` without a guess.
    """
    fitted = _fit_range(pixels, path, spec, scale_known=scale_known)
    return _fit_channels(fitted, path, spec)


def _fit_range(
    pixels: Shaped[np.ndarray, "H W *C"], path: ImageSource, spec: ImageSpec, *, scale_known: bool
) -> Shaped[np.ndarray, "H W *C"]:
    """Bring the samples to the dtype and the range of `spec`."""
    if pixels.dtype == np.float32:
        return _fit_float(pixels, path, spec)
    if pixels.dtype == np.uint16 and not scale_known and 0 < pixels.max() <= TWELVE_BITS:
        raise UsageError(
            f"{path} stores 16 bits a pixel but no value above {pixels.max()}, as 12-bit cameras "
            "do, so that its scale is unknown: rescale its values to 0-65535, or save it with 8 "
            "bits"
        )
    if spec.dtype == "float32":
        scale = (spec.high - spec.low) / np.iinfo(pixels.dtype).max
        return (pixels * scale + spec.low).clip(spec.low, spec.high).astype(np.float32)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def _fit_float(
    pixels: Shaped[np.ndarray, "H W *C"], path: ImageSource, spec: ImageSpec
) -> Shaped[np.ndarray, "H W *C"]:
    if spec.dtype == "uint8":
        raise UsageError(
            f"{path} holds floating-point pixels of unknown scale: save it with 8 bits"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not spec.low <= low <= high <= spec.high:
        raise UsageError(
            f"{path} holds values from {low:g} to {high:g}, but images of this data set lie in "
            f"{spec.low:g} to {spec.high:g}: rescale it"
        )
    return pixels


def _fit_channels(
    pixels: Shaped[np.ndarray, "H W *C"], path: ImageSource, spec: ImageSpec
) -> Shaped[np.ndarray, "H W C"]:
    if spec.channels not in (1, 3):
        raise UsageError(
            f"{path}: images of {spec.channels} channels cannot be read from files, only 1 or 3"
        )
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], spec.channels, axis=2)
    if spec.channels == 3:
        return pixels
    if not _is_grey(pixels):
        raise UsageError(f"{path} is a colour image, but grey ones are asked for: save it as grey")
    return pixels[..., :1]


def _is_grey(pixels: Shaped[np.ndarray, "*S 3"]) -> bool:
    return bool(
        np.array_equal(pixels[..., 0], pixels[..., 1])
        and np.array_equal(pixels[..., 0], pixels[..., 2])
    )


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
    return pixels[..., 0] if _is_grey(pixels) else pixels


def is_grey_gif(image: ImageFile) -> bool:
    """Whether a GIF, which has no grey mode, stands for grey levels by a palette of greys.

    Its indices mean nothing: programs keep only the levels that occur in a file, so that index 0 is
    black in one and white in another.
    """
    if not isinstance(image, GifImageFile) or image.mode != "P":
        return False
    used = palette_of(image)[np.unique(np.array(image))]
    return _is_grey(used)


def _mask_colors(image: ImageFile, path: Path) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode in ("LA", "RGBA"):
        pixels = np.array(image.convert("RGBA"))
        return _without_alpha(pixels, path, opaque=255)
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
