"""The search for near-duplicates over 10,000 images: its seconds, and whether it misses a pair.

`python -m benchmarks.duplicates [IMAGES]` makes thumbnails of random scenes, two parts of half of
them each, with altered copies of one image in ten in the other part; searches them; and holds the
pairs against those of plain matrix products in float64 over the same descriptors.
"""

import sys
import time

import numpy as np
from jaxtyping import Float64
from PIL import Image

from truemask.checks.registration import align
from truemask.checks.similarity import LEAST, SIDE, VIEWS, WHOLE, descriptors, search

_BLOCK = 500
_CLOSE = 1e-5
"""Pairs so near the limit may fall on either side of it by rounding."""


def scenes(count: int, seed: int) -> Float64[np.ndarray, "N S S"]:
    """Random fields whose amplitudes fall with 1 / frequency, as those of photographs do."""
    random = np.random.default_rng(seed)
    steps = np.fft.fftfreq(SIDE) * SIDE
    frequency = np.hypot(steps[:, None], steps[None, :])
    frequency[0, 0] = np.inf
    noise = random.normal(size=(count, SIDE, SIDE))
    fields: Float64[np.ndarray, "N S S"] = np.fft.ifft2(np.fft.fft2(noise) / frequency).real
    return fields / fields.std((1, 2), keepdims=True) * 40 + 128


def altered(image: Float64[np.ndarray, "S S"], random: np.random.Generator) -> np.ndarray:
    """Cropped by up to a tenth a side, perhaps mirrored, with noise and in other light."""
    left, top, right, bottom = random.uniform(0, 0.1, 4) * SIDE
    box = (left, top, SIDE - right, SIDE - bottom)
    picture = Image.fromarray(image.astype(np.float32))
    cells = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    cells = cells[:, ::-1] if random.random() < 0.5 else cells
    return cells * random.uniform(0.7, 1.3) + random.normal(0, 3, cells.shape)


def brute_force(first: np.ndarray, second: np.ndarray) -> dict[tuple[int, int], float]:
    """Every pair whose largest product over all views is at least `LEAST`, less a rounding."""
    found: dict[tuple[int, int], float] = {}
    ours, theirs = [], []
    for view in VIEWS:
        whole = view.second_is_whole
        ours.append(descriptors(first, view.window if whole else WHOLE).astype(np.float64))
        window = WHOLE if whole else view.window
        theirs.append(descriptors(second, window, view.symmetry).astype(np.float64))
    for top in range(0, len(first), _BLOCK):
        best = np.full((min(_BLOCK, len(first) - top), len(second)), -1.0)
        for one, other in zip(ours, theirs, strict=True):
            np.maximum(best, one[top : top + _BLOCK] @ other.T, out=best)
        for row, column in zip(*np.nonzero(best >= LEAST - _CLOSE), strict=True):
            found[top + int(row), int(column)] = float(best[row, column])
    return found


def main() -> int:
    """1 where the search misses a pair or invents one."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    first, second = scenes(count // 2, 0), scenes(count - count // 2, 1)
    random = np.random.default_rng(2)
    copied = random.choice(len(first), count // 20, replace=False)
    for place, original in enumerate(copied):
        second[place] = altered(first[original], random)
    ours, theirs = first.astype(np.float32), second.astype(np.float32)
    start = time.perf_counter()
    pairs = search(ours, theirs)
    middle = time.perf_counter()
    same = align(ours, theirs, pairs).same
    end = time.perf_counter()
    print(f"{count} images: search {middle - start:.1f} s, alignment of {len(pairs)} pairs "
          f"{end - middle:.1f} s")  # fmt: skip
    expected = brute_force(ours, theirs)
    keys = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    sure = {key for key, value in expected.items() if value >= LEAST + _CLOSE}
    told = dict(zip(zip(pairs.first, pairs.second, strict=True), pairs.similarity, strict=True))
    apart = max((abs(expected[key] - float(told[key])) for key in sure & keys), default=0.0)
    print(f"brute force {time.perf_counter() - end:.1f} s: {len(sure)} pairs, of which "
          f"{len(sure - keys)} are missed; {len(keys - set(expected))} are invented; "
          f"similarities differ by {apart:.1e}")  # fmt: skip
    true = {(int(original), place) for place, original in enumerate(copied)}
    kept = {key for key, good in zip(told, same, strict=True) if good}
    print(f"of {len(true)} copies {len(true & keys)} are found and {len(true & kept)} confirmed; "
          f"{len(kept - true)} others are")  # fmt: skip
    return int(bool(sure - keys or keys - set(expected)))


if __name__ == "__main__":
    sys.exit(main())
