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
from truemask.files import make_folder
from truemask.inference.coco_file import COCO, made_here, require_no_other, write_coco
from truemask.inference.lowered import with_precision
from truemask.inference.predict_file import Outcome, predict_file
from truemask.inference.records import model_key, read_record
from truemask.inference.settings import Settings
from truemask.inference.summary import (
    PredictedImage,
    PredictResult,
    add_to_summary,
    read_summary,
)
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
    together = "coco" in settings.polygons or made_here(out)
    if todo and together:
        # So that it never tells of masks that are no longer there, whenever this is ended.
        (out / COCO).unlink(missing_ok=True)
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
    coco = str(out / COCO) if together and write_coco(out, bundle.labels) else None
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
        out=str(out), written=written, kept=list(kept.values()), failed=failed, coco=coco
    )


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
    if "coco" in settings.polygons:
        require_no_other(out)
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
