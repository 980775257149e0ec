"""The edge benchmark of an image at 99 thresholds, against SciPy's assignment for each of them.

`python -m benchmarks.edges BSDS500 [IMAGES]` takes the first validation images of the original
dataset, whose annotators are known singly, and prints for each the seconds of one core, of which so
many are for thinning; how many times as long SciPy's `min_weight_full_bipartite_matching` would
take, from every eleventh threshold; and whether both find as many partners. The edge maps are the
gradient's magnitude after a blur of 2 pixels, in 256 levels: noisy at low thresholds, as those of a
poor detector. `thinned` are the same maps kept on their ridges only, as good detectors leave them.
"""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64
from PIL import Image
from scipy.ndimage import convolve1d, gaussian_filter
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from truemask.datasets.bsds500 import annotations, read_annotators
from truemask.metrics.edges import TOLERANCE, edge_counts, thresholds
from truemask.metrics.matching import disc
from truemask.metrics.thinning import pack, thin_words, unpack

EVERY = 11
"""SciPy's assignment is asked at every so many thresholds, as it takes long."""


def edge_map(path: Path) -> Float64[np.ndarray, "H W"]:
    """Magnitude of the blurred gradient, from 0 to 1, in 256 levels."""
    grey = gaussian_filter(np.asarray(Image.open(path).convert("L"), float), 2)
    steep = np.hypot(*(convolve1d(grey, [0.5, 0, -0.5], axis=axis) for axis in (0, 1)))
    share = np.clip(steep / np.percentile(steep, 99.5), 0, 1)
    return np.round(share * 255) / 255


def ridges(values: Float64[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
    """Only the pixels that are as high as both neighbours in a row or a column."""
    padded = np.pad(values, 1)
    centre = padded[1:-1, 1:-1]
    rows = (centre >= padded[:-2, 1:-1]) & (centre >= padded[2:, 1:-1])
    columns = (centre >= padded[1:-1, :-2]) & (centre >= padded[1:-1, 2:])
    return np.where(rows | columns, values, 0)


def assigned(first: Bool[np.ndarray, "H W"], second: Bool[np.ndarray, "H W"], radius: float) -> int:
    """How many partners SciPy's assignment finds, of all the nearest."""
    if first.sum() > second.sum():
        first, second = second, first
    offsets = disc(radius)
    reach = int(offsets.max())
    number = np.full(np.add(second.shape, 2 * reach), -1)
    number[reach:-reach, reach:-reach][second] = np.arange(second.sum())
    places = np.argwhere(first) + reach
    near = number[tuple((places[:, None] + offsets).transpose(2, 0, 1))]
    row, step = np.nonzero(near >= 0)
    if len(row) == 0:
        return 0
    alone: Int64[np.ndarray, " N"] = np.arange(len(places))
    distances = np.hypot(*offsets[step].T) + 1
    weights = np.concatenate([distances, np.full(len(alone), len(alone) * 10.0)])
    columns = np.concatenate([near[row, step], second.sum() + alone])
    graph = csr_array(
        (weights, (np.concatenate([row, alone]), columns)),
        shape=(len(places), int(second.sum()) + len(places)),
    )
    return int((min_weight_full_bipartite_matching(graph)[1] < second.sum()).sum())


def seconds(action: Callable[[], object]) -> float:
    """Of one core; what else the machine does hardly counts."""
    start = time.thread_time()
    action()
    return time.thread_time() - start


def image(
    name: str, values: Float64[np.ndarray, "H W"], drawings: Bool[np.ndarray, "K H W"]
) -> float:
    """One line; the seconds of ours."""
    counts = edge_counts(values, drawings)
    ours = min(seconds(lambda: edge_counts(values, drawings)) for _ in range(3))
    words = pack(values, thresholds().tolist())
    thinning = seconds(lambda: thin_words(words))
    radius = TOLERANCE * math.hypot(*values.shape)
    theirs, equal = 0.0, True
    for index in range(0, 99, EVERY):
        found = unpack(words, index)
        start = time.thread_time()
        partners = sum(assigned(found, drawing, radius) for drawing in drawings)
        theirs += (time.thread_time() - start) * 99 / len(range(0, 99, EVERY))
        equal &= partners == counts[index, 0]
    print(
        f"{name:<20} {len(drawings)} annotators   {ours:6.2f} s, thinning {thinning:5.2f} s   "
        f"SciPy's assignment {theirs:6.1f} s, {(theirs + thinning) / ours:5.1f} x   "
        f"{'as many partners' if equal else 'OTHER PARTNERS'}",
        flush=True,
    )
    return ours


def main(root: Path, images: int) -> None:
    """All images, and the medians."""
    files = sorted((root / "images" / "val").glob("*.jpg"))[:images]
    drawn = annotations(root)
    taken: dict[str, list[float]] = {"gradient": [], "thinned": []}
    for path in files:
        drawings = read_annotators(drawn[path.stem])
        values = edge_map(path)
        taken["gradient"].append(image(path.stem, values, drawings))
        taken["thinned"].append(image(f"{path.stem} thinned", ridges(values), drawings))
    for kind, times in taken.items():
        print(f"{kind}: median {np.median(times):.2f} s, {min(times):.2f} to {max(times):.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
