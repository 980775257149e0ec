"""Opening image files with Pillow: format by content, limits, orientation.

Whatever is wrong with a file becomes a `UsageError` that names it.

Pillow is the only decoder. Over the JPEGs of a 480x360 data set torchvision's own decoder gives
the same pixels and is a quarter faster (0.97 against 1.24 ms an image), but it is deprecated,
reads neither TIFF nor BMP, and cannot decode a JPEG at a fraction of its size, which is faster
still (2.7 ms for all of a 1280x720 photo, 2.0 with torchvision's, 1.2 at a quarter).
"""

import io
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol, cast

import numpy as np
from jaxtyping import Shaped, UInt16
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from truemask.errors import UsageError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp")
)
"""Endings of the files that are looked at; the format itself is told by the content."""

MAX_PIXELS = 178_956_970
"""A file that claims more pixels is refused: Pillow's own limit against decompression bombs."""

_PLUGINS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
    (b"RIFF", WebPImageFile),
    (b"GIF8", GifImageFile),
    (b"BM", BmpImageFile),
)

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""

_MARGIN = 1.4
"""How many times the wanted height and width a JPEG keeps at least when it is decoded smaller."""

# What Pillow's decoders raise on content they cannot make sense of.
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # Of broken metadata, where warnings are errors.
)


class TooManyPixels(UsageError):
    """A file that claims more pixels than are read."""


class ImageSource(Protocol):
    """Where an image file is read from: a path, or `Content`; `str` is what messages call it."""

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        """The file from its beginning."""


@dataclass(frozen=True)
class Content:
    """The content of an image file in memory.

    Attributes:
        content: all of it.
        name: what messages call it.
    """

    content: bytes
    name: str = "the image"

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        """The file from its beginning."""
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is of a format that is read; 16 bytes are enough."""
    return _plugin_of(head) is not None


def _plugin_of(head: bytes) -> type[ImageFile] | None:
    plugin = next((kind for magic, kind in _PLUGINS if head.startswith(magic)), None)
    return None if plugin is WebPImageFile and head[8:12] != b"WEBP" else plugin


@contextmanager
def _faults_of(path: ImageSource) -> Iterator[None]:
    """Turn whatever Pillow raises on a faulty file into a `UsageError` that names the file."""
    try:
        yield
    except UsageError:
        raise
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        if isinstance(error, Image.DecompressionBombError):
            raise TooManyPixels(f"{path} is too large to be read: {error}") from error
        if str(error) == "unknown pixel mode":  # of a TIFF, by Pillow
            raise UsageError(
                f"{path} holds pixels of a kind that is not read (other channels than grey or RGB, "
                "or other numbers): save it as 8-bit RGB or grey"
            ) from error
        raise UsageError(
            f"{path} is truncated or corrupt ({error}): replace it by a whole copy, or remove it "
            "and its counterpart"
        ) from error


@contextmanager
def open_image(path: ImageSource) -> Iterator[ImageFile]:
    """Open a file's header; its pixels are decoded by `load`.

    The plugin is called directly, not through `Image.open`, because the latter warns about large
    images through the process-wide list of warnings before their size can be looked at.

    Raises:
        UsageError: the file is missing, empty, of another format, corrupt, or too large.
    """
    with _faults_of(path):
        file = path.open("rb")
    with file:
        with _faults_of(path):
            head = file.read(16)
            file.seek(0)
        plugin = _plugin_of(head)
        if plugin is None:
            what = "is empty" if not head else "is no JPEG, PNG, TIFF, WebP, GIF or BMP image"
            raise UsageError(f"{path} {what}: replace it by an image of one of these formats")
        with _faults_of(path):
            # Of some formats Pillow maps the file that has this name.
            image = plugin(file, str(path) if isinstance(path, Path) else "")
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise TooManyPixels(
                    f"{path} claims {width}x{height} pixels, more than the {MAX_PIXELS:,} that "
                    "are read: cut it into smaller images"
                )
            yield image


def load(image: ImageFile, path: ImageSource) -> None:
    """Decode the pixels.

    Raises:
        UsageError: the file is truncated or corrupt.
    """
    with _faults_of(path):
        if image.width * image.height <= MAX_PIXELS // 2:
            image.load()
            return
        # The TIFF plugin warns at half the limit; `MAX_PIXELS` has been checked.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image.load()


def load_shrunk(image: ImageFile, path: ImageSource, size: tuple[int, int]) -> Image.Image | None:
    """Decode a JPEG that is much larger than it is wanted, without making all of its pixels.

    The decoder leaves out the high frequencies of each block, and so gives a half, a quarter or an
    eighth of the height and width: the least that is still 1.4 times those wanted, each way. The
    rest of the way is smoothed as `resize_image` does.

    Over the photos of CamVid and BSDS500, the result is 1.1 to 1.4 levels (of 255) from that of
    decoding and resizing the whole, on average over pixels, where the margin is just 1.4; about 0.5
    where it is 2.5. Without a margin it would be 2.5.

    Args:
        image: as `open_image` gives it; untouched where the result is None.
        path: for the message of an error.
        size: height and width wanted, of the image as it is to be looked at.

    Returns:
        The pixels as they are stored, still to be turned; None of what is no JPEG or too small.

    Raises:
        UsageError: the file is truncated or corrupt.
    """
    if not isinstance(image, JpegImageFile):
        return None
    wide, high = size[::-1] if orientation(image, path) not in _SIDEWAYS else size
    largest = min(image.width / (wide * _MARGIN), image.height / (high * _MARGIN))
    scale = next((scale for scale in (8, 4, 2) if scale <= largest), 1)
    drawn = image.draft(None, (image.width // scale, image.height // scale)) if scale > 1 else None
    if drawn is None:
        return None
    load(image, path)
    # The box ends within the last row and column where the size is no multiple of the scale:
    # resizing all of these would shift the picture against its mask.
    return image.resize((wide, high), Image.Resampling.BILINEAR, box=drawn[1])


def frames(image: ImageFile, path: ImageSource) -> int:
    """How many images the file holds; the smaller copies of a pyramidal TIFF do not count."""
    with _faults_of(path):
        count = int(getattr(image, "n_frames", 1))
        if count == 1 or not isinstance(image, TiffImageFile):
            return count
        size, same = image.size, 0
        for frame in range(count):
            image.seek(frame)
            same += image.size == size
        image.seek(0)
        return same


def orientation(image: ImageFile, path: ImageSource) -> int:
    """The EXIF orientation, 1 to 8, that is still to be applied.

    1 for TIFF, which Pillow turns by itself. Of a PNG that keeps its EXIF behind its pixels it is
    known only after `load`.
    """
    holders = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
    if isinstance(image, TiffImageFile) or not holders & image.info.keys():
        return 1
    with _faults_of(path):
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in range(2, 9) else 1


class Frame(NamedTuple):
    """How the picture lies in its file.

    Attributes:
        stored: height and width of the pixels in the file.
        orientation: EXIF orientation, 1 to 8, by which they are still to be turned.
    """

    stored: tuple[int, int]
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture as it is to be looked at."""
        return self.stored[::-1] if self.orientation in _SIDEWAYS else self.stored


def turn(pixels: Shaped[np.ndarray, "H W *C"], orientation: int) -> Shaped[np.ndarray, "h w *C"]:
    """The picture as it is to be looked at, of pixels stored with an EXIF orientation."""
    if orientation in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def image_frame(path: Path) -> Frame:
    """How the picture of a file lies in it; only the header is read.

    Raises:
        UsageError: as `open_image`.
    """
    with open_image(path) as image:
        return Frame((image.height, image.width), orientation(image, path))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width as `read_image` will give them; only the header is read.

    Raises:
        UsageError: as `open_image`.
    """
    return image_frame(path).size


def mode_of(image: ImageFile) -> str:
    """How the pixels of a file lie: Pillow's mode, with "16-bit" before it where they have 16."""
    if image.mode.startswith("I;16"):
        return "16-bit L"
    return f"16-bit {image.mode}" if ";16" in raw_mode(image) else image.mode


def raw_mode(image: ImageFile) -> str:
    """How the samples lie in the file, in Pillow's words ("RGB;16B", "L;2"), or ""."""
    args: Any = image.tile[0].args if image.tile else None
    while isinstance(args, tuple):
        args = args[0] if args else None
    return args if isinstance(args, str) else ""


def load_wide(path: ImageSource) -> UInt16[np.ndarray, "H W C"]:
    """The samples of an image of 2 to 4 channels of 16 bits; Pillow keeps the upper 8 only.

    Decoding once as if the bytes of each sample lay in the other order gives the lower 8. Two
    channels (grey and alpha) are decoded as if their four bytes were four channels.
    """
    with open_image(path) as image:
        mode = raw_mode(image)
    samples: UInt16[np.ndarray, "H W C"]
    if mode == "LA;16B":
        parts = _load_as(path, "RGBA").astype(np.uint16)
        samples = (parts[..., ::2] << 8) | parts[..., 1::2]
        return samples
    order = mode[-1] if mode[-1] != "N" else {"little": "L", "big": "B"}[sys.byteorder]
    swapped = mode[:-1] + {"B": "L", "L": "B"}[order]
    samples = (_load_as(path, mode).astype(np.uint16) << 8) | _load_as(path, swapped)
    return samples


def _load_as(path: ImageSource, mode: str) -> Shaped[np.ndarray, "H W C"]:
    with open_image(path) as image:
        image.tile = [
            tile._replace(
                args=mode if isinstance(tile.args, str) else (mode, *cast(Any, tile.args)[1:])
            )
            for tile in image.tile
        ]
        load(image, path)
        samples: Shaped[np.ndarray, "H W C"] = np.array(image)
    return samples
