"""Masks for images that nobody has labelled: files, folders and globs in, masks out.

    OUT/<name>.png           the mask, 8-bit grey: a pixel's value is its class id
    OUT/<name>.color.png     the same in the classes' colours, since ids look black to the eye
    OUT/<name>.overlay.jpg   the image with the mask over it, on demand
    OUT/<name>.npz           the probability of each class, on demand
    OUT/<name>.geojson       outlines of regions, on demand (`polygon_files.py`)
    OUT/predictions.csv      one row per image: size, share of each class, mean confidence, and a
                             warning where it is unlike the training images (`doubt.py`), ...

A TIFF that is georeferenced or very large gets a TIFF (`predict_raster.py`). Where each image goes
is settled before the first is predicted (`targets.py`). An image whose mask was made by the same
model with the same settings is left as it is, so that the same call goes on where one was ended.
"""

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Shaped, UInt8
from PIL import Image
from torch import Tensor

from truemask.bundle import Bundle
from truemask.datasets.reading import read_image, read_mask_raw
from truemask.errors import JobFailed, UsageError
from truemask.files import atomic_path, make_folder
from truemask.geometry import Box
from truemask.images import ImageSpec, to_rgb
from truemask.inference.augment import augmented
from truemask.inference.doubt import Doubt, find_doubt
from truemask.inference.lowered import with_precision
from truemask.inference.overlay import overlay_image
from truemask.inference.polygon_files import write_polygons
from truemask.inference.predict_raster import predict_raster
from truemask.inference.rasters import UnusableRaster
from truemask.inference.records import Record, model_key, read_record
from truemask.inference.settings import Settings
from truemask.inference.summary import (
    PredictedImage,
    PredictResult,
    add_to_summary,
    read_summary,
)
from truemask.inference.tally import Tally, read_off
from truemask.inference.targets import Target, Targets, find_targets
from truemask.inference.videos import read_frame
from truemask.labels import LabelMap
from truemask.memory import explain_memory
from truemask.models.segmenter import evaluating
from truemask.models.tiling import logits_by_blocks

Outcome = PredictedImage | str
"""What was written, or why an image cannot be used."""

Calling = Callable[[Sequence[Target]], Iterator[tuple[int, Outcome]]]
"""Predicts images and gives, in any order, the place of each and what came of it."""

_TABLE_EVERY_S = 10.0
"""How often the table is written while images are predicted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of one image.

    Attributes:
        ids: the most probable class of each pixel, on the CPU.
        confidence: mean over pixels of the probability of that class.
        entropy: mean over pixels of the entropy of the probabilities, as a share of the largest
            that there is.
        probabilities: the probability of each class, on the CPU; `None` unless asked for.
    """

    ids: UInt8[Tensor, "H W"]
    confidence: float
    entropy: float
    probabilities: Float16[Tensor, "K H W"] | None = None


def predict_image(
    bundle: Bundle,
    image: Shaped[Tensor, "C H W"],
    *,
    probabilities: bool = False,
    tile: int | None = None,
    flips: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Prediction:
    """Predict one image, on the device where the model is; its mode stays as it was.

    Without flips and scales, the ids are those that `evaluation.evaluate` counts, pixel for pixel.

    Args:
        bundle: the model and its labels.
        image: of the dtype and range that the model takes, any height and width.
        probabilities: whether to keep the probability of each class.
        tile: largest side of a tile in pixels; `None` cuts only images above 2048x2048 pixels.
        flips: whether to average the probabilities of the image and its mirror images.
        scales: sizes of the image whose probabilities are averaged.

    Raises:
        UsageError: the image is of another kind than the model takes.
    """
    prediction, _ = _predict_image(
        bundle,
        image,
        Settings(probabilities=probabilities, flips=flips, scales=tuple(scales)),
        tile,
    )
    return prediction


def _predict_image(
    bundle: Bundle, image: Shaped[Tensor, "C H W"], settings: Settings, tile: int | None
) -> tuple[Prediction, Tally]:
    model, labels = bundle.model, bundle.labels
    device = model.mean.device
    pixels = image.as_subclass(Tensor)
    height, width = pixels.shape[-2:]
    ids = torch.empty(height, width, dtype=torch.uint8)
    kept = None
    if settings.probabilities:
        kept = torch.empty(labels.num_classes, height, width, dtype=torch.float16)
    tally = Tally(labels.num_classes)
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        compute = augmented(
            model, flips=settings.flips, scales=settings.scales, temperature=bundle.temperature
        )
        for box, logits in logits_by_blocks(
            model, lambda box: box.crop(pixels), height, width, tile=tile, compute=compute
        ):

            def keep(strip: Box, found: Tensor, box: Box = box) -> None:
                if kept is not None:
                    strip.paste(box.crop(kept), found)

            box.paste(ids, read_off(bundle, logits, tally, keep=keep))
    prediction = Prediction(
        ids=ids,
        confidence=tally.mean(tally.confidence),
        entropy=tally.mean(tally.entropy),
        probabilities=kept,
    )
    return prediction, tally


def predict(
    bundle: Bundle,
    inputs: Sequence[Path | str],
    out: Path,
    *,
    settings: Settings | None = None,
    fresh: bool = False,
    part: tuple[int, int] = (1, 1),
    every: int = 1,
    urls: Mapping[Path, str] | None = None,
    progress: Callable[[float, int], None] | None = None,
    calling: Calling | None = None,
) -> PredictResult:
    """Predict files, folders and globs, and write what the module's description lists.

    Nothing is overwritten but an earlier prediction of an image of the same name. An image that
    cannot be used is left out, and reported in the result.

    Args:
        bundle: the model and its labels.
        inputs: images, folders (searched recursively), globs; as text also URLs of buckets.
        out: the folder for the masks, made where it is missing.
        settings: what is asked for; by default masks alone.
        fresh: whether to predict also what is there already.
        part: of how many calls, on how many machines, this one is which: (1, 3) predicts the first,
            the fourth, the seventh image and so on. All may write into one folder.
        every: of how many frames of a video one is predicted.
        urls: of inputs that were fetched, from where.
        progress: called with the number of images done, a raster in parts, and that of all.
        calling: what predicts the images; by default this process does, one after the other.

    Raises:
        UsageError: an input holds no image, a file would be overwritten, the folder cannot be
            written, or the memory does not suffice.
    """
    settings = settings or Settings()
    which, number = part
    if not 1 <= which <= number:
        raise UsageError(f"--part {which}/{number} is none: the first of three is 1/3")
    found_targets = open_targets(inputs, out, bundle.labels, settings, every=every)
    targets: Sequence[Target] = found_targets[which - 1 :: number]
    if urls:
        targets = [replace(target, url=urls.get(target.source, "")) for target in targets]
    key = model_key(bundle, settings)
    outcomes: dict[int, Outcome] = {}
    kept: dict[int, PredictedImage] = {}

    def tick(share: float) -> None:
        if progress is not None and share < 1:
            progress(len(kept) + len(outcomes) + share, len(targets))

    alone = partial(_one_by_one, bundle, out=out, settings=settings, key=key, tick=tick)
    calling = calling or alone
    for index, target in enumerate(targets):
        found = None if fresh else find_done(target, out, settings, key)
        if found is not None:
            kept[index] = found
    todo = [index for index in range(len(targets)) if index not in kept]
    table = _Table(out, bundle.labels)
    try:
        if progress is not None:
            progress(len(kept), len(targets))
        for place, outcome in calling(_at(targets, todo)):
            index = todo[place]
            if isinstance(outcome, PredictedImage):
                outcome = replace(outcome, file=targets[index].given)
                table.add(outcome)
            outcomes[index] = outcome
            if progress is not None:
                progress(len(kept) + len(outcomes), len(targets))
    finally:
        # Also when an error ends it all: the masks that are written keep their rows.
        both = outcomes | kept
        found_all = [both[index] for index in sorted(both)]
        table.finish([each for each in found_all if isinstance(each, PredictedImage)])
    written, failed = [], []
    for index in todo:
        outcome = outcomes[index]
        if isinstance(outcome, str):
            target = targets[index]
            if target.stored is None:
                outcome = outcome.replace(str(target.source), target.given)
            failed.append((target.given, outcome))
        else:
            written.append(outcome)
    return PredictResult(out=str(out), written=written, kept=list(kept.values()), failed=failed)


def _at(targets: Sequence[Target], places: Sequence[int]) -> Sequence[Target]:
    if isinstance(targets, Targets):
        return targets.take(places)
    return [targets[place] for place in places]


class _Table:
    """The table, written now and then while images are predicted."""

    def __init__(self, out: Path, labels: LabelMap) -> None:
        self.out, self.labels = out, labels
        self.fresh: list[PredictedImage] = []
        self.due = time.monotonic() + _TABLE_EVERY_S

    def add(self, image: PredictedImage) -> None:
        """Take a row."""
        self.fresh.append(image)
        if time.monotonic() >= self.due:
            began = time.monotonic()
            add_to_summary(self.out, self.fresh, self.labels)
            self.fresh.clear()
            # A table of a million rows takes its time.
            took = time.monotonic() - began
            self.due = time.monotonic() + max(_TABLE_EVERY_S, 20 * took)

    def finish(self, images: Sequence[PredictedImage]) -> None:
        """Write all rows, in order."""
        if images:
            add_to_summary(self.out, images, self.labels)


def open_targets(
    inputs: Sequence[Path | str], out: Path, labels: LabelMap, settings: Settings, *, every: int = 1
) -> Targets:
    """Which images to predict; nothing but the folder is written yet.

    Raises:
        UsageError: see `predict`.
    """
    targets = find_targets(inputs, out, settings, every=every)
    read_summary(out, labels)
    make_folder(out)
    return targets


def find_done(target: Target, out: Path, settings: Settings, key: str) -> PredictedImage | None:
    """What is there already of an image: made by this model, of the file as it is now, complete.

    Args:
        target: the image.
        out: the folder of the masks.
        settings: what is asked for.
        key: what `records.model_key` gives.
    """
    target, record = next(
        ((each, found) for each in target.variants() if (found := read_record(each.mask))),
        (target, None),
    )
    try:
        if record is None or record.key != target.key(key):
            return None
        if not all(file.is_file() for file in target.asked(settings)):
            return None
    except OSError:
        return None
    mask = target.mask.relative_to(out).as_posix()
    return PredictedImage.from_figures(target.given, mask, record.figures)


def _one_by_one(
    bundle: Bundle,
    targets: Sequence[Target],
    *,
    out: Path,
    settings: Settings,
    key: str,
    tick: Callable[[float], None],
) -> Iterator[tuple[int, Outcome]]:
    bundle = with_precision(bundle, settings.precision)
    for index, target in enumerate(targets):
        yield index, predict_file(bundle, target, out, settings=settings, key=key, tick=tick)


def predict_file(
    bundle: Bundle,
    target: Target,
    out: Path,
    *,
    settings: Settings,
    key: str,
    tick: Callable[[float], None] | None = None,
) -> Outcome:
    """Predict one image and write its files.

    Args:
        bundle: the model and its labels.
        target: the image.
        out: the folder of the masks.
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
        outcome = _predict_near(bundle, near, out, settings=settings, key=key, tick=tick)
        if target.stored is not None and isinstance(outcome, str):
            outcome = outcome.replace(str(near.source), target.given)
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
    return None


def _predict_near(
    bundle: Bundle,
    target: Target,
    out: Path,
    *,
    settings: Settings,
    key: str,
    tick: Callable[[float], None] | None,
) -> Outcome:
    with explain_memory(where=f"at {target.given}", remedy="give a lower --tile, such as 1024"):
        describe = partial(_describe, target, bundle.labels, out)
        try:
            own = target.key(key)
            if (unusable := _unusable(target, settings)) is not None:
                return unusable
        except OSError as error:
            return f"cannot read {target.source}: {error.strerror}"
        if target.raster:
            return _predict_raster(bundle, target, settings, own, describe, tick)
        try:
            image = _read(target, bundle.model.images)
            prediction, tally = _predict_image(bundle, image, settings, settings.tile)
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
    out: Path,
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
        mask=target.mask.relative_to(out).as_posix(),
        height=height,
        width=width,
        shares={name: tally.mean(count) for name, count in counts.items()},
        confidence=tally.mean(tally.confidence),
        entropy=tally.mean(tally.entropy),
        pixels=counts,
        areas=areas,
        unlikeness=None if doubt is None else doubt.unlikeness,
        warning=None if doubt is None else doubt.warning,
    )
