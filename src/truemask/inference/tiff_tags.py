"""The tags of a TIFF, whatever its pixels are; Pillow opens only those whose pixels it knows."""

import struct
from pathlib import Path
from typing import IO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from truemask.models.tiling import HUGE_SIDE

WIDTH, HEIGHT, BITS, DESCRIPTION, ORIENTATION, SOFTWARE = 256, 257, 258, 270, 274, 305

GEOREFERENCE = (33550, 33922, 34264, 34735, 50844)
"""Pixel scale, tie points, transformation, GeoTIFF keys, rational polynomials."""

NODATA = 42113
"""GDAL's: the value of pixels without data, as text."""

UNREADABLE = (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error)
"""What reading the tags of a file raises that is no TIFF, or a damaged one."""

_BIG = 43
"""The version of a BigTIFF, whose header is twice as long."""


def tiff_tags(path: Path) -> ImageFileDirectory_v2:
    """The tags of the first image of a TIFF.

    Raises:
        OSError, SyntaxError, ValueError, KeyError, TypeError: it is none.
    """
    with path.open("rb") as file:
        return tags_in(file)


def tags_in(file: IO[bytes]) -> ImageFileDirectory_v2:
    """As `tiff_tags`, of an open file."""
    head = file.read(8)
    if _BIG in head[2:4]:
        head += file.read(8)
    tags = ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    for tag in tags:  # while the file is open
        tags.get(tag)
    return tags


def is_raster(path: Path) -> bool:
    """Whether a file is a TIFF that is georeferenced, lacks data, or is read in pieces."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    if path.with_suffix(".tfw").exists():
        return True
    try:
        tags = tiff_tags(path)
        pixels = int(tags[WIDTH]) * int(tags[HEIGHT])
        return pixels > HUGE_SIDE**2 or any(tag in tags for tag in (*GEOREFERENCE, NODATA))
    except UNREADABLE:
        return False  # What is wrong with it is said when it is read.
