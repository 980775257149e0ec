"""Keeping decoded samples, so that an epoch does not decode the files again.

A process that loads alone keeps them in its memory. Several processes would each keep other ones,
and few of them: they share a file, of which the system keeps in memory what it has room for. It
outlives the training, and serves every training on the same samples.
"""

import hashlib
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from torch.utils.data import get_worker_info
from torchvision import tv_tensors

from truemask.data.cache_file import CacheFile
from truemask.data.cache_folder import SUFFIX
from truemask.data.views import Wrapped, fingerprint, read_mask, resized
from truemask.datasets.paired import Size
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.files import default_cache_folder
from truemask.labels import LabelMap

FOLDER_BYTES = 32 << 30
"""What all files of the cache folder take at most, where no more is asked for."""


def cached(
    dataset: SegmentationDataset,
    *,
    limit: int,
    notes: list[str],
    folder: Path | str | None = None,
    budget: int = FOLDER_BYTES,
    workers: int = 0,
    processes: int = 1,
) -> SegmentationDataset:
    """The dataset, its samples kept once they were read.

    In memory where one process loads; in a file of `folder` where several do, if the dataset has
    fingerprints by which to tell whether the file is still right. Without them, without locks
    (Windows), or where the folder cannot be used, each process keeps its share in memory. What is
    generated anew for every epoch is never asked for twice, and not kept.

    Args:
        dataset: where the samples come from.
        limit: bytes to keep at most, over all processes; 0 keeps nothing.
        notes: gets a sentence for the user on what was decided.
        folder: where the files are; None for `default_cache_folder()`.
        budget: bytes that all files of the folder may take; the least recently used that no process
            has open are removed.
        workers: loading processes of each training process.
        processes: training processes on this machine.
    """
    if limit == 0 or getattr(dataset, "endless", False):
        return dataset
    in_memory = MemoryCache(dataset, limit=limit // (max(1, workers) * processes))
    # One loading process beside the training process makes two, both of which read samples.
    alone = workers == 0 and processes == 1
    prints = None if alone or sys.platform == "win32" else fingerprints(dataset)
    if prints is None:
        return in_memory
    kept: Cache
    try:
        place = default_cache_folder() if folder is None else Path(folder).expanduser()
        kept = FileCache(dataset, prints=prints, folder=place, limit=limit, budget=budget)
        note = f"Decoded images are kept in {place} (data.cache, data.cache_folder)."
    except (OSError, RuntimeError) as error:  # The latter where the user has no home.
        kept = in_memory
        note = (
            f"Decoded images are kept in memory, as {folder or 'the usual folder'} cannot be used "
            f"({error}): name another by data.cache_folder."
        )
    if note not in notes:  # The parts share a folder.
        notes.append(note)
    return kept


class Cache(Wrapped, ABC):
    """A dataset that gives the samples of another, and keeps them."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    @abstractmethod
    def find(self, index: int) -> Sample | None:
        """The sample, where it was kept."""

    @abstractmethod
    def keep(self, index: int, sample: Sample) -> None:
        """Keep the sample, where there is room."""

    def __getitem__(self, index: int) -> Sample:
        sample = self.find(index)
        if sample is None:
            sample = self.dataset[index]
            self.keep(index, sample)
        return sample

    def mask(self, index: int) -> tv_tensors.Mask:
        """The mask alone."""
        sample = self.find(index)
        return read_mask(self.dataset, index) if sample is None else sample.mask

    @property
    def labels(self) -> LabelMap:
        """The dataset's."""
        return self.dataset.labels

    def resized(self, size: Size) -> SegmentationDataset:
        """The dataset at another height and width; nothing of it is kept."""
        return resized(self.dataset, size)


class MemoryCache(Cache):
    """A dataset that keeps in memory what it has read, up to a limit; the rest is read again.

    Args:
        dataset: where the samples come from.
        limit: bytes of pixels to keep at most.
    """

    def __init__(self, dataset: SegmentationDataset, *, limit: int) -> None:
        super().__init__(dataset)
        self.limit = limit
        self._kept: dict[int, Sample] = {}
        self._bytes = 0

    def find(self, index: int) -> Sample | None:
        """The sample, where it was kept."""
        return self._kept.get(index)

    def keep(self, index: int, sample: Sample) -> None:
        """Keep the sample, where there is room."""
        size = sample.image.nbytes + sample.mask.nbytes
        if self._bytes + size <= self.limit:
            self._kept[index] = sample
            self._bytes += size


class FileCache(Cache):
    """A dataset that keeps the samples it has read in a file, which all processes share.

    Whatever is wrong with the file, the folder or the disk: the sample is read from the dataset.

    Args:
        dataset: where the samples come from.
        prints: its `fingerprints`.
        folder: where the file is; made where it is missing.
        limit: bytes that the file may have.
        budget: bytes that all files of the folder may have.

    Raises:
        OSError: the folder cannot be used.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        *,
        prints: Sequence[bytes],
        folder: Path,
        limit: int,
        budget: int = FOLDER_BYTES,
    ) -> None:
        super().__init__(dataset)
        # A folder of its own, as files in it are removed.
        self.folder = folder / "samples"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.limit = limit
        self.budget = budget
        self._prints = tuple(prints)
        self._key = _key(dataset, prints)
        self._process: int | None = os.getpid()
        self._file: CacheFile | None = self._open()

    def _open(self) -> CacheFile:
        return CacheFile(
            self.folder / f"{self._key.hex()}{SUFFIX}",
            key=self._key,
            count=len(self._prints),
            spec=self.images,
            limit=self.limit,
            budget=self.budget,
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": None, "_file": None}

    def _opened(self) -> CacheFile | None:
        """The file as this process opened it, which may be a fork of the one that did so last."""
        if self._process != os.getpid():
            self._process, self._file = os.getpid(), None
            try:
                self._file = self._open()
            except OSError as error:
                self._tell(error)
        return self._file

    def find(self, index: int) -> Sample | None:
        """The sample, where it was kept."""
        file = self._opened()
        if file is None:
            return None
        try:
            return file.read(index)
        except (OSError, ValueError) as error:
            self._file = None
            self._tell(error)
            return None

    def keep(self, index: int, sample: Sample) -> None:
        """Keep the sample, where there is room and its files are those of the beginning."""
        file = self._opened()
        if file is None or file.full or fingerprint(self.dataset, index) != self._prints[index]:
            return
        try:
            file.add(index, sample)
        except TimeoutError:
            pass
        except OSError as error:
            file.full = True
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        """One line for the user, not one from each process."""
        worker = get_worker_info()
        if worker is None or worker.id == 0:
            logging.getLogger(__name__).warning(
                "No more decoded images are kept in %s (%s): they are read again in every epoch.",
                self.folder,
                str(error),  # The error itself would keep the file open.
            )


def fingerprints(dataset: SegmentationDataset) -> list[bytes] | None:
    """The fingerprints of all samples; None where the dataset cannot give one of each."""
    prints = []
    for index in range(len(dataset)):
        found = fingerprint(dataset, index)
        if found is None:
            return None
        prints.append(found)
    return prints


def _key(dataset: SegmentationDataset, prints: Sequence[bytes]) -> bytes:
    """16 bytes that change where a decoded sample might."""
    described = (_code(), dataset.images, dataset.labels.to_json(), len(prints))
    key = hashlib.blake2b(repr(described).encode(), digest_size=16)
    for one in prints:
        key.update(hashlib.blake2b(one, digest_size=16).digest())
    return key.digest()


@cache
def _code() -> str:
    """What decodes: this package's code as it is, and the versions of the libraries it calls."""
    digest = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parents[1]
    files = [package / "images.py", package / "labels.py"]
    for folder in ("data", "datasets"):
        files += sorted((package / folder).glob("*.py"))
    for file in files:
        digest.update(hashlib.blake2b(file.read_bytes()).digest())
    libraries = (PIL.__version__, np.__version__, torch.__version__, torchvision.__version__)
    return f"{digest.hexdigest()} {libraries} {sys.byteorder}"
