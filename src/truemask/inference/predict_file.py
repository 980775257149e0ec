"""One image from its file to the files of its prediction, or why it cannot be used."""

import io
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor

from truemask.bundle import Bundle
from truemask.datasets.mask_files import read_mask_raw
from truemask.datasets.reading import read_image
from truemask.errors import JobFailed, UsageError
from truemask.files import atomic_path, make_folder
from truemask.images import ImageSpec, to_rgb
from truemask.inference.doubt import Doubt, find_doubt
from truemask.inference.out_bucket import send, staged
from truemask.inference.overlay import overlay_image
from truemask.inference.polygon_files import write_polygons
from truemask.inference.predict_image import Prediction, predict_and_tally
from truemask.inference.predict_raster import predict_raster
from truemask.inference.rasters import UnusableRaster
from truemask.inference.records import Record, read_record
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictedImage
from truemask.inference.tally import Tally
from truemask.inference.target import Target
from truemask.inference.videos import read_frame
from truemask.labels import LabelMap
from truemask.memory import explain_memory

Outcome = PredictedImage | str
"""What was written, or why an image cannot be used."""


def predict_file(
    bundle: Bundle,
    target: Target,
    *,
    settings: Settings,
    key: str,
    tick: Callable[[float], None] | None = None,
) -> Outcome:
    """Predict one image and write its files.

    Args:
        bundle: the model and its labels.
        target: the image.
        settings: what is asked for.
        key: what `records.model_key` gives, which the mask keeps.
        tick: called with the share of a raster that is done.

    Returns:
        What was written, or why the image cannot be used.

    Raises:
        UsageError: a file cannot be written, or the memory does not suffice.
    """
    with ExitStack() as stack:
        try:
            near = stack.enter_context(target.at_hand())
        except (UsageError, JobFailed) as error:
            return str(error)
        near = stack.enter_context(staged(near))
        outcome = _predict_near(bundle, near, settings=settings, key=key, tick=tick)
        if isinstance(outcome, str):
            given = target.stored is not None
            return outcome.replace(str(near.source), target.given) if given else outcome
        if target.bucket:
            try:
                outcome = replace(outcome, size=send(near, settings))
            except JobFailed as error:
                return str(error)
        return outcome


_LONGEST_NAME = 255
"""Bytes of a file's name, as nearly all file systems have it."""


def _unusable(target: Target, settings: Settings) -> str | None:
    """Why an image of this name cannot be predicted, which would otherwise end all others."""
    if target.source.exists() and not target.source.is_file():
        return f"{target.source} is no file"  # a pipe would be waited for
    longest = max(target.asked(settings), key=lambda file: len(os.fsencode(file.name)))
    if len(os.fsencode(longest.name)) > _LONGEST_NAME:
        return f"the name of {target.source} is too long for {longest.suffix} beside it: shorten it"
    if target.bucket and not _is_utf8(target.mask_name):
        return f"the name of {target.source} is no UTF-8, as names in a bucket must be: change it"
    return None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _predict_near(
    bundle: Bundle,
    target: Target,
    *,
    settings: Settings,
    key: str,
    tick: Callable[[float], None] | None,
) -> Outcome:
    with explain_memory(where=f"at {target.given}", remedy="give a lower --tile, such as 1024"):
        try:
            own = target.key(key)
            describe = partial(_describe, target, bundle.labels, own)
            if (unusable := _unusable(target, settings)) is not None:
                return unusable
        except OSError as error:
            return f"cannot read {target.source}: {error.strerror}"
        if target.raster:
            return _predict_raster(bundle, target, settings, own, describe, tick)
        try:
            image = _read(target, bundle.model.images)
            prediction, tally = predict_and_tally(bundle, image, settings, settings.tile)
            doubt = find_doubt(bundle, image)
        except UsageError as error:
            return str(error)
        height, width = prediction.ids.shape
        described = describe(tally, height, width, None, doubt)
        record = target.record(own, described.figures(), settings)
        _clear_way(target)
        _write(target, prediction, bundle.labels, record)
        if settings.overlay:
            rgb = to_rgb(image, bundle.model.images)
            _write_overlay(target, rgb, prediction.ids.numpy(), bundle.labels)
        if settings.polygons:
            write_polygons(target, prediction.ids.numpy(), bundle.labels, settings.polygons)
        return described


def _read(target: Target, spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    if target.frame is None:
        image: Tensor = read_image(target.source, spec)
        return image
    try:
        return read_frame(target.source, target.frame, spec)
    except UsageError as error:
        raise UsageError(f"frame {target.frame}: {error}") from error


def _predict_raster(
    bundle: Bundle,
    target: Target,
    settings: Settings,
    key: str,
    describe: Callable[[Tally, int, int, float | None, Doubt | None], PredictedImage],
    tick: Callable[[float], None] | None,
) -> Outcome:
    make_folder(target.stem.parent)
    clear = partial(_clear_way, target)
    try:
        found = predict_raster(
            bundle, target, settings, key=key, describe=describe, clear=clear, tick=tick
        )
    except UnusableRaster as error:
        return str(error)
    if (overview := found.overview) is not None:
        _write_overlay(target, overview.colors, overview.ids, bundle.labels)
    if settings.polygons:
        ids = read_mask_raw(target.mask)
        write_polygons(target, ids, bundle.labels, settings.polygons, place=found.place)
    return found.image


def _clear_way(target: Target) -> None:
    """Make the folder, and remove what an earlier prediction left beside the mask.

    So a mask never stands beside files of another prediction, whenever this one is ended.
    """
    make_folder(target.stem.parent)
    for file in target.owned(read_record(target.mask)):
        if file != target.mask:
            file.unlink(missing_ok=True)


def _write(target: Target, prediction: Prediction, labels: LabelMap, record: Record) -> None:
    mask = Image.fromarray(prediction.ids.numpy())
    # The mask first: its header is what allows the other files to be replaced.
    _write_picture(mask, target.mask, format="PNG", pnginfo=record.png_info())
    mask.putpalette(labels.palette.tobytes())
    _write_picture(mask, target.color, format="PNG")
    if prediction.probabilities is not None:
        with atomic_path(target.probabilities) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                probabilities=prediction.probabilities.numpy(),
                classes=np.array(labels.names),
            )


def _write_overlay(
    target: Target,
    image: UInt8[np.ndarray, "H W 3"],
    ids: UInt8[np.ndarray, "H W"],
    labels: LabelMap,
) -> None:
    drawn = overlay_image(image, ids, labels)
    _write_picture(Image.fromarray(drawn), target.overlay, format="JPEG", quality=90)


def _write_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    # By way of memory, because Pillow's own errors do not tell a full disk from others.
    content = io.BytesIO()
    picture.save(content, **options)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _describe(
    target: Target,
    labels: LabelMap,
    key: str,
    tally: Tally,
    height: int,
    width: int,
    pixel_area: float | None,
    doubt: Doubt | None,
) -> PredictedImage:
    counts = dict(zip(labels.names, tally.counts.tolist(), strict=True))
    areas = None
    if pixel_area is not None:
        areas = {name: count * pixel_area for name, count in counts.items()}
    return PredictedImage(
        file=target.given,
        mask=target.mask_name,
        height=height,
        width=width,
        shares={name: tally.mean(count) for name, count in counts.items()},
        confidence=tally.mean(tally.confidence),
        entropy=tally.mean(tally.entropy),
        pixels=counts,
        areas=areas,
        unlikeness=None if doubt is None else doubt.unlikeness,
        warning=None if doubt is None else doubt.warning,
        key=key,
    )
