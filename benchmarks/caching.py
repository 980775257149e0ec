"""Samples out of the cache's file, against decoding and resizing their files again.

`python -m benchmarks.caching` prints both rates for JPEGs of 1280x720 and 110 KB that are brought
to 128x128, and for PNGs and JPEGs of CamVid's 480x360 as they are; each in one process without
collation, and through a loader with two workers.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.loading import BATCH, CLASSES, SIZE, photo_and_mask, rates, write_pairs
from benchmarks.ratio import Ratio, compare
from truemask.data.cache import FOLDER_BYTES, FileCache, fingerprints
from truemask.data.collate import collate
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair
from truemask.labels import LabelMap

LABELS = LabelMap(
    names=tuple(f"class {i}" for i in range(CLASSES)),
    values={i: i for i in range(CLASSES)} | {255: 255},
)
CAMVID = (480, 360)
COUNT = 96
DISTINCT = 16


def write_small(folder: Path, ending: str) -> tuple[Pair, ...]:
    """Pairs of CamVid's size; their files are few, and read again and again."""
    random = np.random.default_rng(0)
    for index in range(DISTINCT):
        photo, mask = (Image.fromarray(one) for one in photo_and_mask(random))
        photo.resize(CAMVID).save(folder / f"{index}{ending}")
        mask.resize(CAMVID, Image.Resampling.NEAREST).save(folder / f"{index}_mask.png")
    stems = [folder / f"{i % DISTINCT}" for i in range(COUNT)]
    return tuple(
        Pair(None, f"{i:04d}", stem.with_suffix(ending), stem.with_name(f"{stem.name}_mask.png"))
        for i, stem in enumerate(stems)
    )


def caching(name: str, decoded: PairedDataset, folder: Path, *, workers: int) -> Ratio:
    """Seconds for all samples, out of the file and decoded, in turn."""
    prints = fingerprints(decoded)
    assert prints is not None
    kept: Any = FileCache(
        decoded, prints=prints, folder=folder, limit=FOLDER_BYTES, budget=FOLDER_BYTES
    )
    direct: Any = decoded

    def all_of(samples: Iterable[Any]) -> int:
        return sum(1 for _ in samples)

    def loader(dataset: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=BATCH,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=True,
        )

    if workers:
        ours, theirs = loader(kept), loader(direct)
        return compare(name, lambda: all_of(ours), "decoded", lambda: all_of(theirs), pairs=5)
    places = range(len(decoded))
    return compare(
        name,
        lambda: all_of(kept[i] for i in places),
        "decoded",
        lambda: all_of(direct[i] for i in places),
        pairs=5,
    )


def main() -> None:
    """All, about a minute."""
    torch.set_num_threads(1)  # As in a worker, also where there is none.
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in ("large", "png", "jpg"):
            (root / name).mkdir()
        datasets = {
            "JPEG 1280x720 at 128x128": PairedDataset(
                pairs=write_pairs(root / "large", COUNT), labels=LABELS, size=SIZE
            ),
            "PNG 480x360": PairedDataset(pairs=write_small(root / "png", ".png"), labels=LABELS),
            "JPEG 480x360": PairedDataset(pairs=write_small(root / "jpg", ".jpg"), labels=LABELS),
        }
        for workers in (0, 2):
            for name, decoded in datasets.items():
                ratio = caching(f"{name}, {workers} workers", decoded, root, workers=workers)
                print(rates(ratio, COUNT), flush=True)


if __name__ == "__main__":
    main()
