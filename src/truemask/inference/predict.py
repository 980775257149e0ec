"""Masks for images that nobody has labelled: files, folders and globs in, masks out.

    OUT/<name>.png           the mask, 8-bit grey: a pixel's value is its class id
    OUT/<name>.color.png     the same in the classes' colours, since ids look black to the eye
    OUT/<name>.overlay.jpg   the image with the mask over it, on demand
    OUT/<name>.npz           the probability of each class, on demand
    OUT/<name>.geojson       outlines of regions, on demand (`polygon_files.py`)
    OUT/coco.json            those of all images in one file, on demand (`coco_file.py`)
    OUT/predictions.csv      one row per image: size, share of each class, mean confidence, and a
                             warning where it is unlike the training images (`doubt.py`), ...

A TIFF that is georeferenced or very large gets a TIFF (`predict_raster.py`). Where each image goes
is settled before the first is predicted (`targets.py`). An image whose mask was made by the same
model with the same settings is left as it is, so that the same call goes on where one was ended.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.inference.coco_file import COCO, made_here, require_no_other, write_coco
from truemask.inference.lowered import with_precision
from truemask.inference.out import Out, open_out
from truemask.inference.predict_file import Outcome, predict_file
from truemask.inference.records import model_key
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictedImage, PredictResult
from truemask.inference.target import Target
from truemask.inference.targets import Targets, find_targets
from truemask.labels import LabelMap

Calling = Callable[[Sequence[Target]], Iterator[tuple[int, Outcome]]]
"""Predicts images and gives, in any order, the place of each and what came of it."""

_TABLE_EVERY_S = 10.0
"""How often the table is written while images are predicted."""


def predict(
    bundle: Bundle,
    inputs: Sequence[Path | str],
    out: Path | str,
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
        out: the folder for the masks, made where it is missing; as text also that of a bucket.
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
    place = open_out(out)
    found_targets = open_targets(inputs, place, bundle.labels, settings, every=every)
    targets: Sequence[Target] = found_targets[which - 1 :: number]
    if urls:
        targets = [replace(target, url=urls.get(target.source, "")) for target in targets]
    key = model_key(bundle, settings)
    outcomes: dict[int, Outcome] = {}
    kept: dict[int, PredictedImage] = {}

    def tick(share: float) -> None:
        if progress is not None and share < 1:
            progress(len(kept) + len(outcomes) + share, len(targets))

    alone = partial(_one_by_one, bundle, settings=settings, key=key, tick=tick)
    calling = calling or alone
    for index, target in enumerate(targets):
        found = None if fresh else find_done(target, place, settings, key)
        if found is not None:
            kept[index] = found
    todo = [index for index in range(len(targets)) if index not in kept]
    # A bucket holds those of single images only.
    coco = None if place.url else place.folder / COCO
    if coco is not None and not ("coco" in settings.polygons or made_here(place.folder)):
        coco = None
    if todo and coco is not None:
        # So that it never tells of masks that are no longer there, whenever this is ended.
        coco.unlink(missing_ok=True)
    if todo:
        place.begin(_at(targets, todo))
    notes = _Notes(place)
    try:
        if progress is not None:
            progress(len(kept), len(targets))
        for number, outcome in calling(_at(targets, todo)):
            index = todo[number]
            if isinstance(outcome, PredictedImage):
                target = targets[index]
                outcome = replace(outcome, file=target.given)
                notes.add(target, outcome)
            outcomes[index] = outcome
            if progress is not None:
                progress(len(kept) + len(outcomes), len(targets))
    finally:
        # Also when an error ends it all: the masks that are written keep their rows.
        both = outcomes | kept
        found_all = [both[index] for index in sorted(both)]
        notes.finish([each for each in found_all if isinstance(each, PredictedImage)])
    if coco is not None and not write_coco(place.folder, bundle.labels):
        coco = None
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
    return PredictResult(
        out=place.shown,
        written=written,
        kept=list(kept.values()),
        failed=failed,
        coco=None if coco is None else str(coco),
    )


def _at(targets: Sequence[Target], places: Sequence[int]) -> Sequence[Target]:
    if isinstance(targets, Targets):
        return targets.take(places)
    return [targets[place] for place in places]


class _Notes:
    """What was found of images, written now and then while others are predicted."""

    def __init__(self, out: Out) -> None:
        self.out = out
        self.fresh: list[tuple[Target, PredictedImage]] = []
        self.due = time.monotonic() + _TABLE_EVERY_S

    def add(self, target: Target, image: PredictedImage) -> None:
        """Take a row."""
        self.fresh.append((target, image))
        if time.monotonic() >= self.due:
            began = time.monotonic()
            self.out.note(self.fresh)
            self.fresh.clear()
            # A table of a million rows takes its time.
            took = time.monotonic() - began
            self.due = time.monotonic() + max(_TABLE_EVERY_S, 20 * took)

    def finish(self, images: Sequence[PredictedImage]) -> None:
        """Write all rows, in order."""
        self.out.finish(images, self.fresh)


def open_targets(
    inputs: Sequence[Path | str], out: Out, labels: LabelMap, settings: Settings, *, every: int = 1
) -> Targets:
    """Which images to predict; nothing but the folder is written yet.

    Raises:
        UsageError: see `predict`.
    """
    targets = find_targets(inputs, out, settings, every=every)
    if "coco" in settings.polygons and not out.url:
        require_no_other(out.folder)
    out.open(labels, settings)
    return targets


def find_done(target: Target, out: Out, settings: Settings, key: str) -> PredictedImage | None:
    """What is there already of an image: made by this model, of the file as it is now, complete.

    Args:
        target: the image.
        out: the folder of the masks.
        settings: what is asked for.
        key: what `records.model_key` gives.
    """
    target, record = next(
        ((each, found) for each in target.variants() if (found := out.record(each.mask))),
        (target, None),
    )
    try:
        if record is None or record.key != target.key(key):
            return None
        if not all(map(out.exists, target.asked(settings))):
            return None
    except OSError:
        return None
    return PredictedImage.from_figures(
        target.given, target.mask_name, record.figures, key=record.key
    )


def _one_by_one(
    bundle: Bundle,
    targets: Sequence[Target],
    *,
    settings: Settings,
    key: str,
    tick: Callable[[float], None],
) -> Iterator[tuple[int, Outcome]]:
    bundle = with_precision(bundle, settings.precision)
    for index, target in enumerate(targets):
        yield index, predict_file(bundle, target, settings=settings, key=key, tick=tick)
