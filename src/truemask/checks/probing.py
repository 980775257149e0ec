"""Anybody's samples, one at a time, as arrays: folders, lists of files, datasets, mappings.

Every check of data looks at the same `Probe`s in one shared pass: `samples_of` says which samples
there are, and `each` reads them once and applies to each what all checks want to know of it.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from truemask.checks.file_probes import probe_files
from truemask.checks.items import read_item
from truemask.checks.probe import Probe
from truemask.data.views import View, Wrapped
from truemask.datasets.class_table import ClassTable, read_class_table
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair, match_files
from truemask.datasets.scanning import shuffle_key
from truemask.errors import UsageError
from truemask.labels import LabelMap

LIMIT = 500
"""How many samples are read; of more than these, a seeded sample."""

Result = TypeVar("Result")
Files = tuple[Path | None, Path | None]
"""The files of a sample: image and mask."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The samples of one part, still unread.

    Attributes:
        names: of the samples to be read, in the order of the part.
        total: how many samples the part has.
        read: gives the sample at a place of `names`; whatever fails is its `fault`.
        files: image and mask of every sample of the part, also of those that are not read; empty
            where samples are not known to be files.
        lonely_images: image files without a mask.
        lonely_masks: mask files without an image.
        labels: which raw value is which class, where it is known; masks hold raw values where it
            is of another encoding than plain ids.
        encoded: whether masks come as class ids, so that the raw values of `labels` do not matter.
        threads: whether samples may be read in several threads.
    """

    names: tuple[str, ...]
    total: int
    read: Callable[[int], Probe]
    files: tuple[Files, ...] = ()
    lonely_images: tuple[Path, ...] = ()
    lonely_masks: tuple[Path, ...] = ()
    labels: LabelMap | ClassTable | None = None
    encoded: bool = False
    threads: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sampled(self) -> dict[str, int]:
        """What evidence says of it: `{"sampled": 500, "of": 3426}`, or nothing if all are read."""
        if len(self) == self.total:
            return {}
        return {"sampled": len(self), "of": self.total}


def samples_of(source: Any, *, limit: int = LIMIT, seed: int = 0) -> Samples:
    """The samples of whatever holds images and masks.

    Args:
        source: a folder; a list of mask files, or of pairs of an image file and a mask file; or
            anything with a length and an index that gives samples: (image, mask), a mapping with
            keys such as "image" and "mask", an object with attributes `image` and `mask`. Arrays,
            tensors and PIL images are understood, channels first or last.
        limit: the most samples that are read; of more, some are drawn at random.
        seed: of that sample.

    Raises:
        UsageError: it is none of these, or there is nothing in it.
    """
    if isinstance(source, str | Path):
        return _of_folder(Path(source), limit=limit, seed=seed)
    if isinstance(source, PairedDataset):
        own = [(source, index) for index in range(len(source))]
        return _of_pairs(own, source.labels, limit=limit, seed=seed)
    if isinstance(source, View):
        parts = source.sources
        seen = [(part, i) for n, i in source.places if isinstance(part := parts[n], PairedDataset)]
        if len(seen) == len(source.places):
            return _of_pairs(seen, source.labels, limit=limit, seed=seed)
    try:
        total = len(source)
    except TypeError as error:
        raise UsageError(
            f"{type(source).__name__} has no length: give a folder, a list of files, or a dataset "
            "with a length and an index"
        ) from error
    if total == 0:
        raise UsageError("there are no samples to check: the dataset or list is empty")
    if isinstance(source, Sequence) and (files := _files_of(source)) is not None:
        return _of_files(files, limit=limit, seed=seed)
    return _of_items(source, total, limit=limit, seed=seed)


def each(
    samples: Samples,
    function: Callable[[Probe], Result],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Read every sample once, and give what a function makes of each, in order.

    Files are read, and the function is called, in threads: decoding leaves Python's lock free. Of
    other people's datasets one sample is read after the other, and the states of the random
    generators of Python, NumPy and PyTorch are as before when all are read.

    Args:
        samples: of `samples_of`.
        function: called with each sample; must not change it.
        progress: called with (done, total) after each.
    """
    with preserved_randomness():
        for done, result in enumerate(_each(samples, function), start=1):
            yield result
            if progress is not None:
                progress(done, len(samples))


def _each(samples: Samples, function: Callable[[Probe], Result]) -> Iterator[Result]:
    places = range(len(samples))
    if not samples.threads:
        yield from (function(samples.read(place)) for place in places)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
    with ThreadPoolExecutor(min(8, cores)) as pool:
        try:
            yield from pool.map(lambda place: function(samples.read(place)), places)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Puts the global generators of Python, NumPy and PyTorch back as they were."""
    python, legacy, generator = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(generator)


def _chosen(names: Sequence[str], *, limit: int, seed: int) -> list[int]:
    """Places of the samples to read, ascending."""
    if len(names) <= limit:
        return list(range(len(names)))
    places = sorted(range(len(names)), key=lambda place: shuffle_key(names[place], seed))
    return sorted(places[:limit])


def _files_of(source: Sequence[Any]) -> list[Files] | None:
    """The files that a list names, or None where it is no list of files."""
    if all(isinstance(entry, str | os.PathLike) for entry in source):
        return [(None, Path(entry)) for entry in source]
    if all(isinstance(entry, Pair) for entry in source):
        return [(pair.image, pair.mask) for pair in source]
    pairs = all(
        isinstance(entry, tuple | list)
        and len(entry) == 2
        and all(isinstance(path, str | os.PathLike) for path in entry)
        for entry in source
    )
    return [(Path(image), Path(mask)) for image, mask in source] if pairs else None


def _of_folder(root: Path, *, limit: int, seed: int) -> Samples:
    matching = match_files(root)
    files: list[Files] = [(pair.image, pair.mask) for pair in matching.pairs]
    lonely = {"lonely_images": matching.lonely_images, "lonely_masks": matching.lonely_masks}
    if not files:
        images, masks = matching.lonely_images, matching.lonely_masks
        told = any(path.parent.name.lower().startswith(("image", "img")) for path in images)
        if not masks and told:
            raise UsageError(
                f"{root} holds {len(images)} images but no masks: put them into a folder masks/ "
                "beside images/, or name them like x_mask.png beside x.jpg"
            )
        files = [(None, path) for path in masks or images]
        lonely = {}
    table = root / "classes.json"
    labels = read_class_table(table) if table.exists() else None
    return _of_files(files, limit=limit, seed=seed, labels=labels, **lonely)


def _of_files(
    files: Sequence[Files],
    *,
    limit: int,
    seed: int,
    labels: LabelMap | ClassTable | None = None,
    lonely_images: tuple[Path, ...] = (),
    lonely_masks: tuple[Path, ...] = (),
) -> Samples:
    names = [str(image or mask) for image, mask in files]
    places = _chosen(names, limit=limit, seed=seed)
    return Samples(
        names=tuple(names[place] for place in places),
        total=len(files),
        read=lambda place: probe_files(*files[places[place]], name=names[places[place]]),
        files=tuple(files),
        lonely_images=lonely_images,
        lonely_masks=lonely_masks,
        labels=labels,
        threads=True,
    )


def _of_pairs(
    places: Sequence[tuple[PairedDataset, int]], labels: LabelMap, *, limit: int, seed: int
) -> Samples:
    """Samples that Truemask would read from files: read leniently here."""
    names = [dataset.names[index] for dataset, index in places]
    chosen = _chosen(names, limit=limit, seed=seed)

    def read(place: int) -> Probe:
        dataset, index = places[chosen[place]]
        return probe_files(
            dataset.pairs[index].image,
            dataset.pairs[index].mask,
            name=dataset.names[index],
            colors=dataset.labels.encoding == "colors",
            read_raw=dataset.read_raw,
            as_stored=dataset.as_stored,
            fit_masks=dataset.fit_masks,
        )

    pairs = [dataset.pairs[index] for dataset, index in places]
    return Samples(
        names=tuple(names[place] for place in chosen),
        total=len(places),
        read=read,
        files=tuple((pair.image, pair.mask) for pair in pairs),
        labels=labels,
        threads=True,
    )


def _of_items(source: Any, total: int, *, limit: int, seed: int) -> Samples:
    named = getattr(source, "names", None)
    names = tuple(named) if named is not None and len(named) == total else None
    names = names or tuple(f"sample {index}" for index in range(total))
    places = _chosen(names, limit=limit, seed=seed)
    labels = getattr(source, "labels", None)
    return Samples(
        names=tuple(names[place] for place in places),
        total=total,
        read=lambda place: read_item(source, places[place], name=names[places[place]]),
        labels=labels if isinstance(labels, LabelMap) else None,
        encoded=True,
        threads=isinstance(source, View | Wrapped),
    )
