"""The edge benchmark of BSDS500 over arrays or files: no run, no model and no MATLAB needed.

    edge_benchmark("edges/", "BSDS500/data/groundTruth/test").ods

The scores are those of `metrics/edges.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

from truemask.datasets.bsds500 import read_annotators
from truemask.datasets.mask_files import read_mask_raw
from truemask.datasets.part_folders import files_ending
from truemask.errors import UsageError
from truemask.metrics.edges import THRESHOLDS, TOLERANCE, EdgeCounts, EdgeResult, edge_counts

Maps = Path | str | Mapping[str, Float[np.ndarray, "H W"]] | Sequence[Float[np.ndarray, "H W"]]
Drawings = (
    Path | str | Mapping[str, Shaped[np.ndarray, "*K H W"]] | Sequence[Shaped[np.ndarray, "*K H W"]]
)
Read = Callable[[], np.ndarray[Any, Any]]


def edge_benchmark(
    predictions: Maps,
    ground_truths: Drawings,
    *,
    thresholds: int = THRESHOLDS,
    tolerance: float = TOLERANCE,
    thinned: bool = True,
    resamples: int = 2000,
    progress: Callable[[int, int], None] | None = None,
) -> EdgeResult:
    """ODS, OIS and AP of edge maps, with 95 % bootstrap intervals over images.

    Args:
        predictions: see `count_edges`, as all others.
        ground_truths: likewise.
        thresholds: likewise.
        tolerance: likewise.
        thinned: likewise.
        resamples: how often the images are drawn again; 0 gives no intervals.
        progress: likewise.
    """
    return count_edges(
        predictions,
        ground_truths,
        thresholds=thresholds,
        tolerance=tolerance,
        thinned=thinned,
        progress=progress,
    ).result(resamples=resamples)


def count_edges(
    predictions: Maps,
    ground_truths: Drawings,
    *,
    thresholds: int = THRESHOLDS,
    tolerance: float = TOLERANCE,
    thinned: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> EdgeCounts:
    """The counts behind the scores; those of several parts merge.

    Args:
        predictions: a folder of grey PNG files, of 8 or 16 bits, whose brightest value is the
            probability 1; or arrays of probabilities from 0 to 1, by name or in order.
        ground_truths: what people drew, for the same names: a folder that holds for each `NAME` a
            file `NAME.mat` as BSDS500 has, a file `NAME.png`, or a folder `NAME` of PNG files, one
            an annotator, in which all but 0 is edge; or arrays, (K, H, W) or, of one annotator,
            (H, W), in which all but 0 is edge.
        thresholds: how many, evenly between 0 and 1.
        tolerance: largest distance of partners as a share of the image's diagonal.
        thinned: whether the maps are thinned first, as in the benchmark.
        progress: called with the number of images done and the number of all.

    Raises:
        UsageError: an image has no prediction or no ground truth, the sizes differ, or a file is
            unusable; the image is named.
    """
    maps = _named(predictions, _maps_in, what="predictions")
    truths = _named(ground_truths, _truths_in, what="ground_truths")
    for name in sorted(maps.keys() ^ truths.keys()):
        lacks = "ground truth" if name in maps else "prediction"
        raise UsageError(f"{name} has no {lacks}: each image needs both, under one name")
    counts = []
    for name in sorted(maps):
        drawings = truths[name]() != 0
        try:
            counts.append(
                edge_counts(
                    maps[name](),
                    drawings[None] if drawings.ndim == 2 else drawings,
                    count=thresholds,
                    tolerance=tolerance,
                    thinned=thinned,
                )
            )
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error
        if progress is not None:
            progress(len(counts), len(maps))
    return EdgeCounts(names=sorted(maps), counts=np.array(counts), tolerance=tolerance)


def _named(
    given: Maps | Drawings, files: Callable[[Path], dict[str, Read]], *, what: str
) -> dict[str, Read]:
    """What is to be read, by name."""
    if isinstance(given, Path | str):
        found = files(Path(given))
        if not found:
            raise UsageError(f"{given} has no {what} that can be read: see `count_edges`")
        return found
    if isinstance(given, Mapping):
        return {str(name): partial(np.asarray, array) for name, array in given.items()}
    if len(given) == 0:
        raise UsageError(f"{what} is empty: give at least one image")
    return {f"{index:06d}": partial(np.asarray, array) for index, array in enumerate(given)}


def _maps_in(folder: Path) -> dict[str, Read]:
    return {
        name: partial(read_probability, path) for name, path in files_ending(folder, ".png").items()
    }


def _truths_in(folder: Path) -> dict[str, Read]:
    found: dict[str, Read] = {
        name: partial(read_annotators, path) for name, path in files_ending(folder, ".mat").items()
    }
    for name, path in files_ending(folder, ".png").items():
        _add(found, name, partial(_read_drawing, path), folder)
    for inner in sorted(path for path in folder.glob("*") if path.is_dir()):
        files = list(files_ending(inner, ".png").values())
        if files:
            _add(found, inner.name, partial(_read_drawings, files), folder)
    return found


def _add(found: dict[str, Read], name: str, read: Read, folder: Path) -> None:
    if name in found:
        raise UsageError(f"{folder} holds two ground truths of {name}: remove one of them")
    found[name] = read


def read_probability(path: Path) -> Float64[np.ndarray, "H W"]:
    """A grey PNG of 8 or 16 bits as probabilities from 0 to 1.

    Raises:
        UsageError: the file is unreadable, or no grey image.
    """
    values = read_mask_raw(path)
    if values.ndim != 2:
        raise UsageError(f"{path} holds colours: an edge map must be a grey image")
    return values / float(np.iinfo(values.dtype).max)


def _read_drawing(path: Path) -> Bool[np.ndarray, "H W"]:
    values = read_mask_raw(path)
    if values.ndim != 2:
        raise UsageError(
            f"{path} holds colours: a drawing must be a grey image, 0 where no edge is"
        )
    drawn: Bool[np.ndarray, "H W"] = values != 0
    return drawn


def _read_drawings(paths: Sequence[Path]) -> Bool[np.ndarray, "K H W"]:
    drawings = [_read_drawing(path) for path in paths]
    if len({drawing.shape for drawing in drawings}) > 1:
        raise UsageError(f"the drawings of {paths[0].parent} have different sizes")
    return np.stack(drawings)
