"""One pass over the samples of all parts, on all cores; each file is decoded once.

Work is cut into blocks of samples. A block's counts come back as one object, and are added up in
whatever order they come, since the order does not matter.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from truemask.analysis.survey_cache import CountsCache, key_of
from truemask.analysis.survey_counts import Counts
from truemask.data.views import attributes, fingerprint, measured
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import JobFailed, UsageError
from truemask.training.interruption import spare_worker

BLOCK = 16
"""Samples of a block: enough that sending counts costs little, few enough to show progress."""

MOST_VALUES = 24
"""An attribute of more values tells images apart, not groups of them."""

FEWEST_PER_PROCESS = 24
"""Samples that are counted before a process more has paid for its start."""


class Block(NamedTuple):
    """Samples of one part, from one index to before another."""

    part: str
    start: int
    stop: int


class Counted(NamedTuple):
    """What came of a block: its counts, and how many of its samples were decoded for them."""

    block: Block
    counts: Counts
    decoded: int


@dataclass(frozen=True)
class Source:
    """Parts to be counted, and by which attributes they are grouped; can be pickled."""

    parts: Mapping[str, SegmentationDataset]
    attributes: tuple[str, ...]
    cache: CountsCache | None = None

    @classmethod
    def of(
        cls, parts: Mapping[str, SegmentationDataset], *, cache: CountsCache | None = None
    ) -> "Source":
        """Grouped by what has a few values over all parts; no file is opened.

        Args:
            parts: part name -> dataset.
            cache: of the counts of single images.

        Raises:
            UsageError: there is no sample.
        """
        if not any(len(part) for part in parts.values()):
            raise UsageError("there is no image to be counted: all parts are empty")
        values: dict[str, set[str]] = {}
        for part in parts.values():
            for known in attributes(part):
                for key, value in known.items():
                    values.setdefault(key, set()).add(value)
        few = sorted(key for key, found in values.items() if 2 <= len(found) <= MOST_VALUES)
        return cls(dict(parts), tuple(few), cache)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())

    @property
    def _first(self) -> SegmentationDataset:
        return next(iter(self.parts.values()))

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self._first.labels.num_classes

    @property
    def channels(self) -> int:
        """How many channels the images have."""
        return self._first.images.channels

    def blocks(self, size: int = BLOCK) -> list[Block]:
        """All samples, in blocks of at most `size`."""
        return [
            Block(name, start, min(start + size, len(part)))
            for name, part in self.parts.items()
            for start in range(0, len(part), size)
        ]

    def count(self, block: Block) -> Counted:
        """The counts of a block; a sample that cannot be used is told in them."""
        part = self.parts[block.part]
        indices = range(block.start, block.stop)
        keys = {index: self._key(part, index) for index in indices}
        known: Mapping[bytes, Counts] = {}
        if self.cache is not None:
            known = self.cache.find(
                list(keys.values()), classes=self.classes, channels=self.channels
            )
        total = Counts.empty(self.classes, self.channels)
        fresh: dict[bytes, Counts] = {}
        decoded = 0
        for index, key in keys.items():
            counts = None if key is None else known.get(key)
            if counts is None:
                counts = self._count_one(part, index)
                decoded += 1
                # Not where the files changed while they were read.
                if key is not None and not counts.failures and key == self._key(part, index):
                    fresh[key] = counts
            total.add(counts.grouped(self._grouped(attributes(part)[index])))
        if self.cache is not None:
            self.cache.keep(fresh)
        return Counted(block, total, decoded)

    def _key(self, part: SegmentationDataset, index: int) -> bytes | None:
        if self.cache is None:
            return None
        return key_of(fingerprint(part, index), name=part.names[index])

    def _grouped(self, known: Mapping[str, str]) -> dict[str, str]:
        return {key: known[key] for key in self.attributes if key in known}

    def _count_one(self, part: SegmentationDataset, index: int) -> Counts:
        name = part.names[index]
        try:
            found = measured(part, index)
        except UsageError as error:
            return Counts.failure(name, str(error), classes=self.classes, channels=self.channels)
        return Counts.of(
            found.mask.numpy(),
            found.channels,
            name=name,
            labels=part.labels,
            mode=found.mode,
            spots=found.spots,
        )


class _Blocks(Dataset[Counted]):
    """Blocks as a dataset, whose loader is the pool of processes."""

    def __init__(self, source: Source, blocks: Sequence[Block]) -> None:
        self.source = source
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> Counted:
        return self.source.count(self.blocks[index])


def count_blocks(source: Source, *, processes: int | None = None) -> Iterator[Counted]:
    """Count all blocks, in any order.

    Args:
        source: the parts.
        processes: how many count; None for one a core, fewer where there is little to count.

    Raises:
        JobFailed: a process was killed.
    """
    blocks = source.blocks()
    chosen = _processes(len(source)) if processes is None else processes
    if chosen <= 1:
        yield from map(source.count, blocks)
        return
    with warnings.catch_warnings():
        # Whoever asks for more processes than there are cores shall have them.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader: DataLoader[Counted] = DataLoader(
            _Blocks(source, blocks),
            batch_size=None,
            num_workers=chosen,
            worker_init_fn=_start,
            collate_fn=_as_is,
            in_order=False,
        )
        found = iter(loader)
    try:
        yield from found
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise JobFailed(
            "a counting process was killed, as the system does where memory runs out: take fewer "
            "by --workers; what is counted already is known the next time"
        ) from error


def _processes(samples: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, samples // FEWEST_PER_PROCESS))


def _start(worker: int) -> None:
    """What reaches all processes of a terminal or a job, the one that started them answers."""
    spare_worker(worker)
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the one that started it was killed.

    Nobody would read what it has counted, and it would wait for that for ever.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _as_is(value: Any) -> Any:
    return value


def count_parts(
    source: Source,
    counted: Iterator[Counted],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Counts], int]:
    """Add up blocks as they come.

    Args:
        source: the parts.
        counted: all blocks of it.
        progress: called with (done, total) samples.

    Returns:
        The counts of each part, and how many samples were decoded for them.

    Raises:
        UsageError: no sample can be used.
    """
    found = {name: Counts.empty(source.classes, source.channels) for name in source.parts}
    done = decoded = 0
    for block, counts, read in counted:
        found[block.part].add(counts)
        done += block.stop - block.start
        decoded += read
        if progress is not None:
            progress(done, len(source))
    if not any(counts.tally.images for counts in found.values()):
        name, reason = next(counts.failed[0] for counts in found.values() if counts.failed)
        raise UsageError(f"none of the {done} images can be used; the first, {name}: {reason}")
    return found, decoded
