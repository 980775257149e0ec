"""The data of the benchmark: a folder, with errors in the labels that train and in no others.

DIR/NAME/train/    half of the images; 15 % of their masks hold an error, all kinds in turn
DIR/NAME/val/      a twentieth of all, with errors likewise: chooses the best epoch
DIR/NAME/test/     the rest, as the dataset has them: errors go in later, one kind at a time
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.audit.injection import KINDS, Mask, inject
from truemask.data.views import View
from truemask.datasets.bdd100k import bdd100k
from truemask.datasets.carvana import carvana
from truemask.datasets.folder import folder
from truemask.datasets.sample import SegmentationDataset
from truemask.datasets.voc import voc
from truemask.images import to_rgb
from truemask.miniatures.writing import write_miniature

CAMVID = "camvid"
MINIATURES = ("bdd100k", "voc2012", "carvana")
TRAINING_SHARE = 0.15


def write(name: str, out: Path, *, camvid_root: Path, images: int = 400) -> Path:
    """Write one dataset of the benchmark; it is left as it is where it stands already."""
    place = out / name
    if (place / "classes.json").exists():
        return place
    pool = _pool(name, out, camvid_root=camvid_root, images=images)
    order = _order(name, pool)
    early, late = order[: len(pool) // 2], order[len(pool) // 2 :]
    parts = {
        "train": [index for place, index in enumerate(early) if place % 10],
        "val": early[::10],
        "test": late,
    }
    labels = pool.labels
    for seed, (part, chosen) in enumerate(parts.items()):
        samples = [pool[index] for index in chosen]
        masks: list[Mask] = [np.asarray(sample.mask, dtype=np.uint8) for sample in samples]
        wrong = {}
        if part != "test":
            wrong = inject(
                masks,
                list(KINDS),
                share=TRAINING_SHARE,
                seed=1000 + seed,
                classes=labels.num_classes,
                ignored=labels.ignore_index,
            )
        for index, sample in enumerate(samples):
            file = sample.name.replace("/", "_")
            for kind, suffix in (("images", "jpg"), ("masks", "png")):
                (place / part / kind).mkdir(parents=True, exist_ok=True)
                target = place / part / kind / f"{file}.{suffix}"
                if kind == "images":
                    Image.fromarray(to_rgb(sample.image, pool.images)).save(target, quality=95)
                else:
                    ids = wrong[index][1] if index in wrong else masks[index]
                    Image.fromarray(ids).save(target)
        print(name, part, len(samples), "wrong:", len(wrong), flush=True)
    value = {
        "classes": [
            {"id": index, "name": one, "color": list(color)}
            for index, (one, color) in enumerate(zip(labels.names, labels.colors, strict=True))
        ],
        "ignore": {"id": labels.ignore_index, "name": labels.ignore_name},
    }
    (place / "classes.json").write_text(json.dumps(value))
    return place


def _pool(name: str, out: Path, *, camvid_root: Path, images: int) -> View:
    if name == CAMVID:
        return _view(folder(camvid_root).values())
    root = out / f"{name}-files"
    if not root.exists():
        write_miniature(name, root, images=images, seed=7)
    opened = {
        "bdd100k": lambda: bdd100k(root),
        "voc2012": lambda: voc(root, year=2012),
        "carvana": lambda: carvana(root),
    }[name]()
    return _view(opened.values())


def _view(parts: Sequence[SegmentationDataset]) -> View:
    return View.of(list(parts))


def _order(name: str, pool: View) -> list[int]:
    """Of CamVid the first half of each drive trains, as neighbouring frames are nearly the same."""
    if name != CAMVID:
        return [int(i) for i in np.random.default_rng(0).permutation(len(pool))]
    drives: dict[str, list[int]] = {}
    for index in sorted(range(len(pool)), key=lambda i: pool.names[i].rpartition("/")[2]):
        drives.setdefault(pool.names[index].rpartition("/")[2].partition("_")[0], []).append(index)
    early = [index for one in drives.values() for index in one[: len(one) // 2]]
    late = [index for one in drives.values() for index in one[len(one) // 2 :]]
    return early + late
