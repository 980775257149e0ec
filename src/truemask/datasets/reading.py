"""Image files as arrays: what their many encodings mean, and which are refused.

Images come out as their `ImageSpec` declares them, or not at all; nothing is guessed.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from PIL import ImageOps
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile
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
        return without_alpha(wide, path, opaque=65535) if wide.shape[2] in (2, 4) else wide
    load(image, path)
    return _samples(image, path)


def _samples(image: Image, path: ImageSource) -> Shaped[np.ndarray, "H W *C"]:
    """Grey or RGB samples of a decoded image."""
    if image.mode in ("I;16", "I;16B", "I;16L"):
        return np.array(image).astype(np.uint16)
    if image.mode == "F":
        return np.array(image)
    if image.has_transparency_data:
        return without_alpha(np.array(image.convert("RGBA")), path, opaque=255)
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


def without_alpha(
    pixels: Shaped[np.ndarray, "H W C"], path: ImageSource, *, opaque: int
) -> Shaped[np.ndarray, "H W *C"]:
    """The samples before their last channel, which says how opaque they are; (H, W) of one.

    Raises:
        UsageError: some are not `opaque`.
    """
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
    if not is_grey(pixels):
        raise UsageError(f"{path} is a colour image, but grey ones are asked for: save it as grey")
    return pixels[..., :1]


def is_grey(pixels: Shaped[np.ndarray, "*S 3"]) -> bool:
    """Whether the three channels are equal everywhere."""
    return bool(
        np.array_equal(pixels[..., 0], pixels[..., 1])
        and np.array_equal(pixels[..., 0], pixels[..., 2])
    )
