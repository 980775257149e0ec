"""Small files in every encoding that users have, written by Pillow or byte by byte."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from truemask.datasets.reading import read_image
from truemask.errors import UsageError
from truemask.images import RGB


def refused(path: Path, text: str, reader=lambda path: read_image(path, RGB)) -> None:
    """Reading the file is refused with one line that names it."""
    with pytest.raises(UsageError, match=text) as caught:
        reader(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    """Any array that Pillow can save, in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def save_palette(path: Path, ids: np.ndarray, colors: list[tuple[int, int, int]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8), mode=None).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([part for color in colors for part in color])
    image.save(path)
    return path


def photo(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blocks(*values: int, height: int = 24, width: int = 32, dtype: type = np.uint8) -> np.ndarray:
    """A mask of vertical stripes, one a value."""
    return np.repeat(
        np.array(values, dtype=dtype)[np.arange(width) * len(values) // width][None], height, 0
    )


def write_folder(
    root: Path, masks: list[np.ndarray], *, classes: object = None, prefix: str = ""
) -> Path:
    """`images/` + `masks/` with a photo for each mask."""
    for index, mask in enumerate(masks):
        save(root / prefix / "images" / f"{index:03d}.png", photo(*mask.shape[:2], seed=index))
        save(root / prefix / "masks" / f"{index:03d}.png", mask)
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def png_of_samples(samples: np.ndarray, *, bits: int, color_type: int) -> bytes:
    """A PNG of any bit depth: grey 0, RGB 2, grey and alpha 4, RGB and alpha 6."""
    height, width = samples.shape[:2]
    if bits == 16:
        rows = [samples[y].astype(">u2").tobytes() for y in range(height)]
    else:
        per_byte = 8 // bits
        padded = np.pad(samples, ((0, 0), (0, -width % per_byte)))
        shifts = np.arange(per_byte)[::-1] * bits
        packed = (padded.reshape(height, -1, per_byte) << shifts).sum(-1).astype(np.uint8)
        rows = [packed[y].tobytes() for y in range(height)]

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def tiff_of_samples(
    samples: np.ndarray, *, order: str = "<", deflate: bool = False, extra: int | None = None
) -> bytes:
    """A one-strip TIFF of integers, (H, W) or (H, W, C), in either byte order."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    bits = samples.dtype.itemsize * 8
    strip = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    strip = zlib.compress(strip) if deflate else strip
    tags = {
        256: (3, [width]), 257: (3, [height]), 258: (3, [bits] * channels),
        259: (3, [8 if deflate else 1]), 262: (3, [2 if channels >= 3 else 1]), 273: (4, [0]),
        277: (3, [channels]), 278: (3, [height]), 279: (4, [len(strip)]), 284: (3, [1]),
    }  # fmt: skip
    if extra is not None:
        tags[338] = (3, [extra] * (channels - 3))
    directory_end = 8 + 2 + 12 * len(tags) + 4
    outside, entries = b"", b""
    overflow = sum(
        len(values) * {3: 2, 4: 4}[kind] for kind, values in tags.values()
        if len(values) * {3: 2, 4: 4}[kind] > 4
    )  # fmt: skip
    tags[273] = (4, [directory_end + overflow])
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{ {3: 'H', 4: 'I'}[kind] }", *values)
        if len(data) > 4:
            place = struct.pack(f"{order}I", directory_end + len(outside))
            outside += data
            data = place
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    count = struct.pack(f"{order}H", len(tags))
    return head + count + entries + b"\0\0\0\0" + outside + strip
