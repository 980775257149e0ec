"""Image and mask files as a `Probe`: read leniently, so that what is wrong can be looked at.

Datasets refuse a JPEG mask or one of another size; a check wants to see its values.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL.Image import Image

from truemask.checks.probe import Fault, Probe
from truemask.datasets.decoding import Frame, load, open_image, orientation, turn
from truemask.datasets.mask_files import lossy_kind, read_open_mask
from truemask.datasets.paired import RawMask, nearest
from truemask.errors import UsageError


def probe_files(
    image_path: Path | None,
    mask_path: Path | None,
    *,
    name: str,
    colors: bool = False,
    read_raw: Callable[[Path], RawMask] | None = None,
    as_stored: bool = False,
    fit_masks: bool = False,
) -> Probe:
    """Read an image file and its mask file.

    Args:
        image_path: None for a mask alone.
        mask_path: None for an image alone.
        name: of the sample.
        colors: whether the mask's colours are wanted, also of a palette.
        read_raw: as `PairedDataset.read_raw`.
        as_stored: as `PairedDataset.as_stored`.
        fit_masks: as `PairedDataset.fit_masks`.
    """
    fault: Fault | None = None
    image = mask = frame = None
    lossy = ""
    if image_path is not None:
        try:
            image, frame = _read_image(image_path)
        except UsageError as error:
            fault = ("image", str(error))
    if mask_path is not None:
        try:
            mask, lossy = _read_mask(mask_path, colors=colors, read_raw=read_raw)
        except UsageError as error:
            fault = fault or ("mask", str(error))
    mask_stored = False
    if mask is not None and frame is not None:
        size = (mask.shape[0], mask.shape[1])
        mask_stored = size == frame.stored and (as_stored or size != frame.size)
        mask_stored &= frame.orientation != 1
        mask = turn(mask, frame.orientation) if mask_stored else mask
        if fit_masks and mask.shape[:2] != frame.size:
            mask = nearest(mask, frame.size)
    return Probe(
        name=name,
        image=image,
        mask=mask,
        image_path=image_path,
        mask_path=mask_path,
        orientation=frame.orientation if frame else 1,
        stored=frame.stored if frame else None,
        mask_stored=mask_stored,
        lossy=lossy,
        fault=fault,
    )


def _read_image(path: Path) -> tuple[Shaped[np.ndarray, "H W C"], Frame]:
    with open_image(path) as image:
        load(image, path)
        turned = orientation(image, path)
        pixels = _pixels(image)
        return turn(pixels, turned), Frame((image.height, image.width), turned)


def _pixels(image: Image) -> Shaped[np.ndarray, "H W C"]:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.array(image).astype(np.float32)[..., None]
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))[..., None]
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _read_mask(
    path: Path, *, colors: bool, read_raw: Callable[[Path], RawMask] | None
) -> tuple[np.ndarray[Any, Any], str]:
    with open_image(path) as image:
        lossy = lossy_kind(image, path)
        if lossy:
            load(image, path)
            pixels = turn(_pixels(image), orientation(image, path))
            grey = (pixels == pixels[..., :1]).all()
            return pixels[..., 0] if grey and not colors else pixels, lossy
        if read_raw is None:
            return read_open_mask(image, path, colors=colors), ""
    return read_raw(path), ""
