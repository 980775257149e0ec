"""Masks for many images on all machines of a Ray cluster: the same files as `predict` writes.

The images are a dataset of Ray Data, a process for each GPU or CPU holds the model, and each writes
the masks of its images itself: bundle, images and masks lie in folders that all machines share, the
latter two also in buckets.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import overload

import torch
from rich.console import Console
from torch import nn

from truemask.bundle import load_bundle
from truemask.cluster import call_on_cluster, describe, joined, require_shared, shared
from truemask.inference.lowered import with_precision
from truemask.inference.out import open_out, remove_left
from truemask.inference.predict import predict
from truemask.inference.predict_file import Outcome, predict_file
from truemask.inference.records import model_key
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictResult
from truemask.inference.target import Target


def predict_on_ray(
    bundle_folder: Path,
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    address: str = "auto",
    settings: Settings | None = None,
    fresh: bool = False,
    part: tuple[int, int] = (1, 1),
    every: int = 1,
    allow: Mapping[str, type[nn.Module]] | None = None,
    progress: Callable[[float, int], None] | None = None,
    console: Console | None = None,
) -> PredictResult:
    """Predict as `inference.predict.predict` does, on a cluster.

    The table has the same rows in the same order. The images of a process that dies are predicted
    again by another.

    Args:
        bundle_folder: the bundle, such as RUN/model.
        inputs: images, folders (searched recursively), globs; as text also URLs of buckets.
        out: the folder for the masks, made where it is missing; as text also that of a bucket.
        address: of the cluster, see `cluster.joined`.
        settings: what is asked for.
        fresh: whether to predict also what is there already.
        part: see `inference.predict.predict`.
        every: likewise.
        allow: classes that the bundle may hold besides the package's own, see `load_bundle`.
        progress: called with the number of images done and the number of all.
        console: where to say what the cluster has.

    Raises:
        UsageError: as `predict`, and where the cluster cannot be joined or does not see `out`.
    """
    settings = settings or Settings()
    bundle = load_bundle(bundle_folder, allow=allow)
    key = model_key(bundle, settings)

    def calling(targets: Sequence[Target]) -> Iterator[tuple[int, Outcome]]:
        if not targets:
            return
        place = open_out(out)
        mark_of = nullcontext(None) if place.url else shared(place.folder.absolute())
        with joined(address) as machines, mark_of as mark:
            if console is not None:
                console.print(describe(machines), highlight=False)
            make = partial(
                _predictor,
                bundle_folder=bundle_folder.absolute(),
                mark=mark,
                settings=settings,
                key=key,
                allow=allow,
            )
            for called in call_on_cluster(make, Absolute(targets)):
                yield called.index, _as_given(called.value, targets[called.index])
        remove_left(targets)

    return predict(
        bundle,
        inputs,
        out,
        settings=settings,
        fresh=fresh,
        part=part,
        every=every,
        progress=progress,
        calling=calling,
    )


class Absolute(Sequence[Target]):
    """Targets for processes that work in folders of their own, made when they are asked for."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets

    def __len__(self) -> int:
        return len(self._targets)

    @overload
    def __getitem__(self, index: int) -> Target: ...
    @overload
    def __getitem__(self, index: slice) -> "Absolute": ...
    def __getitem__(self, index: int | slice) -> "Target | Absolute":
        if isinstance(index, slice):
            return Absolute(self._targets[index])
        return _absolute(self._targets[index])


def _absolute(target: Target) -> Target:
    """The processes work in folders of their own."""
    source = Path(os.path.abspath(target.source))
    if target.bucket:
        return replace(target, source=source)
    stem, folder = (Path(os.path.abspath(path)) for path in (target.stem, target.folder))
    return replace(target, source=source, stem=stem, folder=folder)


def _as_given(outcome: Outcome, target: Target) -> Outcome:
    """With the image named as it was given."""
    if isinstance(outcome, str) and target.stored is None:
        given = str(target.source)
        return outcome.replace(os.path.abspath(given), given)
    return outcome


def _predictor(
    *,
    bundle_folder: Path,
    mark: Path | None,
    settings: Settings,
    key: str,
    allow: Mapping[str, type[nn.Module]] | None,
) -> Callable[[Target], Outcome]:
    """What a process of the cluster does with an image."""
    if mark is not None:
        require_shared(mark)
    bundle = load_bundle(bundle_folder, allow=allow)
    if torch.cuda.is_available():
        bundle.model.to("cuda")
    bundle = with_precision(bundle, settings.precision)
    return partial(predict_file, bundle, settings=settings, key=key)
