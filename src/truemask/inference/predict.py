"""Masks for images that nobody has labelled: files, folders and globs in, PNG masks out.

    OUT/<name>.png           the mask, 8-bit grey: a pixel's value is its class id
    OUT/<name>.color.png     the same in the classes' colours, since ids look black to the eye
    OUT/<name>.overlay.jpg   the image with the mask over it, on demand
    OUT/<name>.npz           the probability of each class, on demand
    OUT/predictions.csv      one row per image: size, share of each class, mean confidence, and a
                             warning where it is unlike the training images (`doubt.py`)

Where each image goes is settled before the first is predicted (`targets.py`).
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Shaped, UInt8
from PIL import Image
from torch import Tensor

from truemask.bundle import Bundle
from truemask.datasets.reading import read_image
from truemask.errors import UsageError
from truemask.files import atomic_path, make_folder
from truemask.images import to_rgb
from truemask.inference.doubt import Doubt, find_doubt
from truemask.inference.summary import (
    PredictedImage,
    PredictResult,
    Rows,
    read_summary,
    write_summary,
)
from truemask.inference.targets import Target, find_targets
from truemask.labels import LabelMap
from truemask.memory import explain_memory
from truemask.models.segmenter import evaluating
from truemask.models.tiling import image_logits

_STRIP = 1 << 20
"""Pixels whose probabilities are in memory at once."""

_SMALLEST_TILE = 512
"""Twice what neighbouring tiles share."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of one image.

    Attributes:
        ids: the most probable class of each pixel, on the CPU.
        confidence: mean over pixels of the probability of that class.
        probabilities: the probability of each class, on the CPU; `None` unless asked for.
    """

    ids: UInt8[Tensor, "H W"]
    confidence: float
    probabilities: Float16[Tensor, "K H W"] | None = None


def predict_image(
    bundle: Bundle,
    image: Shaped[Tensor, "C H W"],
    *,
    probabilities: bool = False,
    tile: int | None = None,
) -> Prediction:
    """Predict one image, on the device where the model is; its mode stays as it was.

    The ids are those that `evaluation.evaluate` counts, pixel for pixel.

    Args:
        bundle: the model and its labels.
        image: of the dtype and range that the model takes, any height and width.
        probabilities: whether to keep the probability of each class.
        tile: largest side of a tile in pixels; `None` cuts only images above 2048x2048 pixels.

    Raises:
        UsageError: the image is of another kind than the model takes.
    """
    model, labels = bundle.model, bundle.labels
    device = model.mean.device
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        logits = image_logits(model, image.as_subclass(Tensor).to(device), tile=tile)[None]
        ids = labels.decode(logits)[0].cpu()
        channels, (height, width) = labels.num_classes, ids.shape
        kept = torch.empty(channels, height, width, dtype=torch.float16) if probabilities else None
        confidence, rows = 0.0, max(1, _STRIP // width)
        # By strips, because the probabilities of a whole photo would double the memory.
        for top in range(0, height, rows):
            strip = bundle.probabilities(logits[:, :, top : top + rows])[0]
            confidence += float(strip.amax(0).sum(dtype=torch.float64))
            if kept is not None:
                kept[:, top : top + rows] = strip
    return Prediction(ids=ids, confidence=confidence / (height * width), probabilities=kept)


def predict(
    bundle: Bundle,
    inputs: Sequence[Path],
    out: Path,
    *,
    overlay: bool = False,
    probabilities: bool = False,
    tile: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PredictResult:
    """Predict files, folders and globs, and write what the module's description lists.

    Nothing is overwritten but an earlier prediction of an image of the same name. An image that
    cannot be used is left out, and reported in the result.

    Args:
        bundle: the model and its labels.
        inputs: images, folders (searched recursively), globs.
        out: the folder for the masks, made where it is missing.
        overlay: whether to write overlays.
        probabilities: whether to write probabilities.
        tile: see `predict_image`.
        progress: called with the number of images done and the number of all.

    Raises:
        UsageError: an input holds no image, a file would be overwritten, the folder cannot be
            written, or the memory does not suffice.
    """
    targets, earlier = open_targets(inputs, out, bundle.labels, tile=tile)
    written: list[PredictedImage] = []
    failed: list[tuple[str, str]] = []
    try:
        for count, target in enumerate(targets, start=1):
            outcome = predict_file(
                bundle, target, out, overlay=overlay, probabilities=probabilities, tile=tile
            )
            if isinstance(outcome, str):
                failed.append((str(target.source), outcome))
            else:
                written.append(outcome)
            if progress is not None:
                progress(count, len(targets))
    finally:
        # Also when an error ends it all: the masks that are written keep their rows.
        if written:
            write_summary(out, earlier, written, bundle.labels)
    return PredictResult(out=str(out), written=written, failed=failed)


def open_targets(
    inputs: Sequence[Path], out: Path, labels: LabelMap, *, tile: int | None
) -> tuple[list[Target], Rows]:
    """Which images to predict, and the table to add to; nothing but the folder is written yet.

    Raises:
        UsageError: see `predict`.
    """
    if tile is not None and tile < _SMALLEST_TILE:
        raise UsageError(f"--tile {tile} is too small: give at least {_SMALLEST_TILE}")
    targets = find_targets(inputs, out)
    earlier = read_summary(out, labels)
    make_folder(out)
    return targets, earlier


def predict_file(
    bundle: Bundle,
    target: Target,
    out: Path,
    *,
    overlay: bool,
    probabilities: bool,
    tile: int | None,
) -> PredictedImage | str:
    """Predict one image and write its files.

    Returns:
        What was written, or why the image cannot be used.

    Raises:
        UsageError: a file cannot be written, or the memory does not suffice.
    """
    with explain_memory(where=f"at {target.source}", remedy="give a lower --tile, such as 1024"):
        try:
            image = read_image(target.source, bundle.model.images)
            prediction = predict_image(bundle, image, probabilities=probabilities, tile=tile)
            doubt = find_doubt(bundle, image)
        except UsageError as error:
            return str(error)
        _write(target, prediction, bundle.labels)
        if overlay:
            _write_overlay(target, image, prediction, bundle)
        return _describe(target, prediction, bundle.labels, out, doubt)


def overlay_image(
    image: UInt8[np.ndarray, "H W 3"],
    ids: UInt8[np.ndarray, "H W"],
    labels: LabelMap,
    *,
    alpha: float = 0.5,
) -> UInt8[np.ndarray, "H W 3"]:
    """An image with its mask over it: each region tinted, its border drawn in the full colour.

    A class called "background" and ignored pixels stay as they are in the image.

    Args:
        image: RGB.
        ids: class ids.
        labels: their colours.
        alpha: how much of the tint is colour, from 0 to 1.
    """
    plain = [i for i, name in enumerate(labels.names) if name.lower() in ("background", "bg")]
    strength = np.full(256, round(alpha * 256), dtype=np.uint16)
    strength[[*plain, labels.ignore_index]] = 0
    weight = strength[ids]
    weight[_borders(ids, width=max(1, round(max(ids.shape) / 800))) & (weight > 0)] = 256
    blended = np.empty_like(image)
    for channel in range(3):
        color = labels.palette[:, channel].astype(np.uint16)[ids]
        # At most 255 * 256, which 16 bits hold.
        mixed = color * weight + image[..., channel].astype(np.uint16) * (256 - weight)
        blended[..., channel] = mixed >> 8
    return blended


def _borders(ids: UInt8[np.ndarray, "H W"], *, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Pixels with another class within `width` pixels, along a row or a column."""
    border = np.zeros(ids.shape, dtype=bool)
    for step in range(1, width + 1):
        across, down = ids[:, step:] != ids[:, :-step], ids[step:] != ids[:-step]
        border[:, step:] |= across
        border[:, :-step] |= across
        border[step:] |= down
        border[:-step] |= down
    return border


def _write(target: Target, prediction: Prediction, labels: LabelMap) -> None:
    make_folder(target.stem.parent)
    mask = Image.fromarray(prediction.ids.numpy())
    # The mask first: its header is what allows the other files to be replaced.
    _write_picture(mask, target.mask, format="PNG", pnginfo=target.header())
    mask.putpalette(labels.palette.tobytes())
    _write_picture(mask, target.color, format="PNG")
    if prediction.probabilities is not None:
        with atomic_path(target.probabilities) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                probabilities=prediction.probabilities.numpy(),
                classes=np.array(labels.names),
            )


def _write_overlay(target: Target, image: Tensor, prediction: Prediction, bundle: Bundle) -> None:
    rgb = to_rgb(image, bundle.model.images)
    drawn = overlay_image(rgb, prediction.ids.numpy(), bundle.labels)
    _write_picture(Image.fromarray(drawn), target.overlay, format="JPEG", quality=90)


def _write_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    # By way of memory, because Pillow's own errors do not tell a full disk from others.
    content = io.BytesIO()
    picture.save(content, **options)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _describe(
    target: Target, prediction: Prediction, labels: LabelMap, out: Path, doubt: Doubt | None
) -> PredictedImage:
    height, width = prediction.ids.shape
    counts = np.bincount(prediction.ids.numpy().ravel(), minlength=labels.num_classes)
    shares = counts / (height * width)
    return PredictedImage(
        file=str(target.source),
        mask=target.mask.relative_to(out).as_posix(),
        height=height,
        width=width,
        shares={name: float(share) for name, share in zip(labels.names, shares, strict=True)},
        confidence=prediction.confidence,
        unlikeness=None if doubt is None else doubt.unlikeness,
        warning=None if doubt is None else doubt.warning,
    )
