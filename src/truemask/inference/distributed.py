"""Masks for many images on all machines of a Ray cluster: the same files as `predict` writes.

The images are a dataset of Ray Data, a process for each GPU or CPU holds the model, and each writes
the masks of its images itself: images, bundle and masks lie in folders that all machines share.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from truemask.bundle import load_bundle
from truemask.cluster import call_on_cluster, describe, joined, require_shared, shared
from truemask.files import remove_partial
from truemask.inference.predict import open_targets, predict_file
from truemask.inference.summary import PredictedImage, PredictResult, write_summary
from truemask.inference.targets import Target

Outcome = PredictedImage | str
"""What was written, or why an image cannot be used."""


def predict_on_ray(
    bundle_folder: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    address: str = "auto",
    overlay: bool = False,
    probabilities: bool = False,
    tile: int | None = None,
    allow: Mapping[str, type[nn.Module]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    console: Console | None = None,
) -> PredictResult:
    """Predict as `inference.predict.predict` does, on a cluster.

    The table has the same rows in the same order. The images of a process that dies are predicted
    again by another.

    Args:
        bundle_folder: the bundle, such as RUN/model.
        inputs: images, folders (searched recursively), globs.
        out: the folder for the masks, made where it is missing.
        address: of the cluster, see `cluster.joined`.
        overlay: whether to write overlays.
        probabilities: whether to write probabilities.
        tile: see `inference.predict.predict_image`.
        allow: classes that the bundle may hold besides the package's own, see `load_bundle`.
        progress: called with the number of images done and the number of all.
        console: where to say what the cluster has.

    Raises:
        UsageError: as `predict`, and where the cluster cannot be joined or does not see `out`.
    """
    labels = load_bundle(bundle_folder, allow=allow).labels
    targets, earlier = open_targets(inputs, out, labels, tile=tile)
    outcomes: dict[int, Outcome] = {}
    try:
        with joined(address) as machines, shared(out.absolute()) as mark:
            if console is not None:
                console.print(describe(machines), highlight=False)
            make = partial(
                _predictor,
                bundle_folder=bundle_folder.absolute(),
                mark=mark,
                overlay=overlay,
                probabilities=probabilities,
                tile=tile,
                allow=allow,
            )
            for called in call_on_cluster(make, list(map(_absolute, targets))):
                outcomes[called.index] = called.value
                if progress is not None:
                    progress(len(outcomes), len(targets))
        remove_partial(file for target in targets for file in target.files)
    finally:
        # Also when an error ends it all: the masks that are written keep their rows.
        result = _in_order(targets, outcomes, out)
        if result.written:
            write_summary(out, earlier, result.written, labels)
    return result


def _absolute(target: Target) -> Target:
    """The processes work in folders of their own."""
    source, stem = (Path(os.path.abspath(path)) for path in (target.source, target.stem))
    return replace(target, source=source, stem=stem)


def _predictor(
    *,
    bundle_folder: Path,
    mark: Path,
    overlay: bool,
    probabilities: bool,
    tile: int | None,
    allow: Mapping[str, type[nn.Module]] | None,
) -> Callable[[Target], Outcome]:
    """What a process of the cluster does with an image."""
    require_shared(mark)
    bundle = load_bundle(bundle_folder, allow=allow)
    if torch.cuda.is_available():
        bundle.model.to("cuda")
    return partial(
        predict_file,
        bundle,
        out=mark.parent,
        overlay=overlay,
        probabilities=probabilities,
        tile=tile,
    )


def _in_order(
    targets: Sequence[Target], outcomes: Mapping[int, Outcome], out: Path
) -> PredictResult:
    """The result as `predict` gives it: in the order of the images, which are named as given."""
    written: list[PredictedImage] = []
    failed: list[tuple[str, str]] = []
    for index, target in enumerate(targets):
        outcome = outcomes.get(index)
        if isinstance(outcome, PredictedImage):
            written.append(replace(outcome, file=str(target.source)))
        elif outcome is not None:
            given = str(target.source)
            failed.append((given, outcome.replace(os.path.abspath(given), given)))
    return PredictResult(out=str(out), written=written, failed=failed)
