"""One part of a dataset as the rules of masks see it: its records, and what their values mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from truemask.checks.finding import Picture
from truemask.checks.mask_pictures import side_by_side
from truemask.checks.mask_records import IGNORED, UNKNOWN, Record
from truemask.checks.probe import Probe
from truemask.checks.probing import Samples, preserved_randomness
from truemask.datasets.class_table import ClassTable
from truemask.datasets.evidence import gather
from truemask.datasets.label_matching import match_labels
from truemask.datasets.layout import some
from truemask.datasets.scanning import MaskScan
from truemask.errors import UsageError
from truemask.labels import LabelMap

_MOST_CLASSES = 256


@dataclass(frozen=True, kw_only=True)
class Meanings:
    """What the values of masks mean.

    Attributes:
        names: of the classes, in the order of their ids.
        ids: value -> class.
        ignored: values of pixels that neither train nor count.
        told: whether somebody said so; otherwise every value is taken for a class.
        loaded: whether the masks are as somebody's dataset gives them, not as files hold them.
        colors: packed colours of the classes, where they are known.
    """

    names: tuple[str, ...]
    ids: Mapping[int, int]
    ignored: frozenset[int]
    told: bool
    loaded: bool = False
    colors: frozenset[int] = frozenset()

    def known(self, value: int) -> bool:
        """Whether a value is of a class, or ignored."""
        return value in self.ids or value in self.ignored

    def describe(self) -> str:
        """The values of classes, for messages."""
        values = sorted(self.ids)
        if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
            return f"{values[0]} to {values[-1]}"
        return some(values, 8)


def meanings_of(
    samples: Samples,
    records: Sequence[Record],
    *,
    num_classes: int | None,
    ignore_index: int | None,
    class_names: Sequence[str] | None,
) -> Meanings:
    """What values mean: as is said, as the data's label map has it, or each a class of its own."""
    labels, loaded = samples.labels, samples.encoded
    if isinstance(labels, ClassTable) and num_classes is None:
        labels = _matched(labels, records)
    if isinstance(labels, LabelMap) and (not loaded or num_classes is None):
        colors = frozenset((c[0] << 16) | (c[1] << 8) | c[2] for c in labels.colors)
        if loaded:
            return _counted(
                labels.names, labels.num_classes, labels.ignore_index, loaded=True, colors=colors
            )
        ids = {raw: k for raw, k in labels.values.items() if k != labels.ignore_index}
        ignored = frozenset(labels.values.keys() - ids.keys())
        return Meanings(names=labels.names, ids=ids, ignored=ignored, told=True, colors=colors)
    named: Sequence[str] = getattr(labels, "names", ())
    names = tuple(class_names or named)
    if num_classes is not None or class_names is not None:
        total = max(num_classes or len(names), 2)
        return _counted(names, total, ignore_index, loaded=loaded)
    return _each_a_class(records, ignore_index, loaded=loaded)


def _counted(
    names: Sequence[str],
    total: int,
    ignore_index: int | None,
    *,
    loaded: bool,
    colors: frozenset[int] = frozenset(),
) -> Meanings:
    """Ids from 0 on."""
    given = tuple(names)[:total]
    return Meanings(
        names=(*given, *(f"class {k}" for k in range(len(given), total))),
        ids={k: k for k in range(total) if k != ignore_index},
        ignored=frozenset() if ignore_index is None else frozenset({ignore_index}),
        told=True,
        loaded=loaded,
        colors=colors,
    )


def _each_a_class(records: Sequence[Record], ignore_index: int | None, *, loaded: bool) -> Meanings:
    values = sorted({value for record in records for value in record.pixels})
    ignored = {ignore_index} & set(values)
    if len(values) == 2 and not loaded:
        ignored = set()  # Two values in files: a background and what stands out from it.
    classes = [value for value in values if value not in ignored][:_MOST_CLASSES]
    return Meanings(
        names=tuple(f"value {value}" for value in classes),
        ids={value: place for place, value in enumerate(classes)},
        ignored=frozenset(value for value in ignored if value is not None),
        told=False,
        loaded=loaded,
    )


def _matched(table: ClassTable, records: Sequence[Record]) -> LabelMap | ClassTable:
    """What `truemask train` makes of a `classes.json`, or its ids as they stand if it refuses."""
    scans = [
        MaskScan(record.mask_path, record.colored, record.pixels, _shown(record), False)
        for record in records
        if record.mask_path is not None and record.pixels
    ]
    try:
        return match_labels(table, gather(scans, complete=True))[0]
    except (UsageError, IndexError, StopIteration):
        values = {raw: place for place, raw in enumerate(table.ids)}
        ignored = 255 if table.ignore_id is None else table.ignore_id
        return LabelMap(names=table.names, values={ignored: 255} | values)


def _shown(record: Record) -> dict[int, int]:
    return {v: v if record.colored else (v & 0xFF) * 0x010101 for v in record.pixels}


@dataclass(frozen=True, kw_only=True)
class Part:
    """All that the rules of masks ask of a part.

    Attributes:
        name: of the part, or "".
        samples: where the records come from, to read a sample again for a picture.
        records: one a sample, in order.
        meanings: what the values mean.
        loss: the loss that is to be trained with, if it was given.
        train_size: height and width of the masks in training, if they were given.
    """

    name: str
    samples: Samples
    records: Sequence[Record]
    meanings: Meanings
    loss: Callable[..., Any] | None = None
    train_size: tuple[int, int] | None = None

    @cached_property
    def read(self) -> list[Record]:
        """The records of masks that could be read."""
        return [record for record in self.records if record.values is not None]

    @cached_property
    def pixels(self) -> Int[np.ndarray, "N K"]:
        """Pixels of each class in each mask that could be read."""
        table = np.zeros((len(self.read), len(self.meanings.names)), dtype=np.int64)
        for row, record in zip(table, self.read, strict=True):
            for value, count in record.pixels.items():
                if value in self.meanings.ids:
                    row[self.meanings.ids[value]] += count
        return table

    @cached_property
    def areas(self) -> Int[np.ndarray, " N"]:
        """All pixels of each mask that could be read."""
        return np.array([sum(record.pixels.values()) for record in self.read], dtype=np.int64)

    @cached_property
    def ignored(self) -> Int[np.ndarray, " N"]:
        """Ignored pixels of each mask that could be read."""
        ignored = self.meanings.ignored
        return np.array(
            [sum(n for value, n in record.pixels.items() if value in ignored)
             for record in self.read],
            dtype=np.int64,
        )  # fmt: skip

    @cached_property
    def ids(self) -> Int[np.ndarray, "N 128 128"]:
        """Thumbnails of class ids; `IGNORED` and `UNKNOWN` stand for what is no class."""
        values = np.array([record.values for record in self.read], dtype=np.int32)
        found = np.full(values.shape, UNKNOWN, dtype=np.int16)
        for value in np.unique(values).tolist():
            if self.meanings.known(value):
                found[values == value] = self.meanings.ids.get(value, IGNORED)
        return found

    def where(self, place: str = "") -> str:
        """A place of this part, for a finding."""
        return ", ".join(word for word in (self.name, place) if word)

    def evidence(self, **values: Any) -> dict[str, Any]:
        """Evidence, with how many samples were read where that is not all."""
        return {**values, **self.samples.sampled}

    def probe(self, record: Record) -> Probe:
        """The sample of a record, read again."""
        place = next(i for i, other in enumerate(self.records) if other is record)
        with preserved_randomness():
            return self.samples.read(place)

    def picture(self, record: Record, caption: str) -> Picture:
        """A sample's image and its mask beside each other."""
        return Picture(caption=caption, pixels=side_by_side(self.probe(record)))

    def pictures(self, records: Sequence[Record], caption: str) -> tuple[Picture, ...]:
        """The first two of some samples."""
        return tuple(
            self.picture(record, f"{record.name}: {caption}")
            for record in records[:2]
            if record.image_size is not None or record.mask_size is not None
        )


def named(records: Sequence[Record], limit: int = 3) -> str:
    """The names of some samples, for a message."""
    return some([record.where for record in records], limit)


def names(records: Sequence[Record]) -> list[str]:
    """The names of samples, for evidence."""
    return [record.where for record in records[:50]]
