"""Rows of pictures from runs: predictions beside the truth, and over the course of a training."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.labels import LabelMap
from truemask.models.tiling import image_logits
from truemask.projects.project import Panel, Panels
from truemask.report.pictures import Picture, Quality, mask, photo
from truemask.run_samples import RunSample
from truemask.runs import Run

QUALITY = Quality(long_side=360, webp=75)
"""Of the pictures in a page that shows many."""

_STRIP = Quality(long_side=1000, webp=75)
_MOST_STRIPS = 12


def predicted_samples(run: Run, most: int) -> list[RunSample]:
    """Samples of a run that have a prediction: the best, the worst, and so on by turns."""
    shown = [sample for sample in run.samples if sample.prediction is not None]
    best = [sample for sample in shown if sample.kind != "worst"]
    worst = [sample for sample in shown if sample.kind == "worst"]
    turns = [sample for pair in zip(best, worst, strict=False) for sample in pair]
    rest = [sample for sample in shown if not any(sample is other for other in turns)]
    return [*turns, *rest][:most]


def beside_truth(runs: Mapping[str, Run], *, most: int = 3) -> Panels | None:
    """Image, truth and prediction of some samples of each run, under its title."""
    panels, labels = [], None
    for title, run in runs.items():
        labels = run.labels
        for sample in predicted_samples(run, most):
            assert sample.prediction is not None
            views = (*_views(sample, labels), ("Prediction", _mask(sample.prediction, labels)))
            panels.append(Panel(f"{title}: {sample.name}", _iou(sample), views))
    return Panels(tuple(panels), labels) if panels else None


def side_by_side(runs: Mapping[str, Run], *, most: int = 4) -> Panels | None:
    """The same images as each run's weights predict them; the first run chooses the images.

    Runs with other classes than the first are left out.
    """
    if len(runs) < 2:
        return None
    first, *_ = runs.values()
    labels = first.labels
    bundles = {title: run.load_bundle() for title, run in runs.items()}
    like = {t: bundle for t, bundle in bundles.items() if bundle.labels.names == labels.names}
    panels = []
    for sample in predicted_samples(first, most):
        views = _views(sample, labels)
        for title, bundle in like.items():
            views = (*views, (title, _mask(predict(bundle, sample.image), labels)))
        panels.append(Panel(sample.name, "", views))
    return Panels(tuple(panels), labels) if panels else None


def predict(bundle: Bundle, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """Class ids of an RGB picture.

    Raises:
        UsageError: the model is not for such pictures.
    """
    if bundle.model.images.channels != 3 or bundle.model.images.dtype != "uint8":
        raise UsageError("pictures of a run can be predicted again only where they are photographs")
    logits = image_logits(bundle.model, torch.from_numpy(image.copy()).permute(2, 0, 1))
    ids: UInt8[np.ndarray, "H W"] = bundle.labels.decode(logits[None])[0].numpy()
    return ids


def over_time(run: Run) -> Panels | None:
    """What a run kept of its predictions during the training; at most a dozen, the last of them."""
    folder = run.path / "pictures"
    steps = sorted(
        (int(found[1]), file)
        for file in (folder.iterdir() if folder.is_dir() else ())
        if (found := re.fullmatch(r"step-(\d{1,12})\.png", file.name))
    )
    if not steps:
        return None
    chosen = np.unique(np.linspace(0, len(steps) - 1, _MOST_STRIPS).round().astype(int))
    files = [(f"Step {steps[i][0]:,}", steps[i][1]) for i in chosen]
    for name in ("truth", "image"):
        if (folder / f"{name}.png").is_file():
            files.insert(0, (name.capitalize(), folder / f"{name}.png"))
    panels = [Panel(name, "", ((name, _strip(file)),)) for name, file in files]
    return Panels(tuple(panels), run.labels)


def _strip(file: Path) -> Picture:
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            return photo(np.asarray(picture.convert("RGB")), _STRIP)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def _views(sample: RunSample, labels: LabelMap) -> tuple[tuple[str, Picture], ...]:
    return (("Image", photo(sample.image, QUALITY)), ("Truth", _mask(sample.truth, labels)))


def _mask(ids: UInt8[np.ndarray, "H W"], labels: LabelMap) -> Picture:
    return mask(ids, labels, QUALITY)


def _iou(sample: RunSample) -> str:
    return "" if sample.iou is None else f"IoU {sample.iou:.3f}"


def present(runs: Mapping[str, Run], titles: Mapping[str, str]) -> dict[str, Run]:
    """Title -> run of the trials that are there, in the order of `titles`."""
    return {title: runs[name] for name, title in titles.items() if name in runs}


def first_of(runs: Mapping[str, Run], names: Sequence[str]) -> Run | None:
    """The first run that is there."""
    return next((runs[name] for name in names if name in runs), None)
