"""How many pixels of each class the images of a part show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from truemask.checks.parts import Contents
from truemask.checks.probing import Samples
from truemask.datasets.class_table import ClassTable
from truemask.labels import LabelMap, pack_rgb

_MOST_CLASSES = 256
"""Of more values than these a mask without a class table is no mask of classes."""

Counts = Mapping[int, int]
"""Raw value of a mask -> its pixels; colours as 0xRRGGBB."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """What the values of masks mean.

    Attributes:
        names: of the classes.
        ids: raw value -> class.
    """

    names: tuple[str, ...]
    ids: Mapping[int, int]


def count(mask: Shaped[np.ndarray, "H W *C"]) -> dict[int, int]:
    """Raw value -> its pixels."""
    if mask.ndim == 3:
        values, pixels = np.unique(pack_rgb(mask), return_counts=True)
    elif mask.dtype == np.uint8:
        table = np.bincount(mask.reshape(-1), minlength=256)
        values, pixels = np.flatnonzero(table), table[table > 0]
    else:
        values, pixels = np.unique(mask, return_counts=True)
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def classes_of(
    samples: Sequence[Samples],
    counts: Sequence[Counts],
    *,
    num_classes: int | None,
    ignore_index: int,
    class_names: Sequence[str] | None,
) -> Classes | None:
    """What values mean: as is said, as the data's label map has it, or each a class of its own.

    Args:
        samples: of all parts.
        counts: of all samples that could be read.
        num_classes: how many classes there are, where that is said.
        ignore_index: the value of pixels that do not count.
        class_names: of the classes, where they are said.

    Returns:
        None where the values are too many to be classes.
    """
    first = samples[0]
    names = class_names or getattr(first.labels, "names", None)
    if isinstance(first.labels, LabelMap) and not first.encoded:
        labels = first.labels
        ids = {raw: k for raw, k in labels.values.items() if k != labels.ignore_index}
    elif isinstance(first.labels, ClassTable) and num_classes is None:
        ids = _of_table(first.labels, counts)
    elif num_classes is not None or names is not None:
        classes = num_classes if num_classes is not None else len(names or ())
        ids = {k: k for k in range(classes) if k != ignore_index}
    else:
        values = sorted({value for one in counts for value in one} - {ignore_index})
        if len(values) > _MOST_CLASSES or not values:
            return None
        ids = {value: place for place, value in enumerate(values)}
        return Classes(names=tuple(f"value {value}" for value in values), ids=ids)
    total = max(ids.values(), default=-1) + 1
    given = tuple(names or ())[:total]
    return Classes(names=(*given, *(f"class {k}" for k in range(len(given), total))), ids=ids)


def _of_table(table: ClassTable, counts: Sequence[Counts]) -> dict[int, int]:
    ids = {raw: k for k, raw in enumerate(table.ids)}
    colors = {(c[0] << 16) | (c[1] << 8) | c[2]: k for k, c in enumerate(table.colors) if c}
    known = [sum(one.get(raw, 0) for one in counts for raw in known) for known in (ids, colors)]
    return colors if known[1] > known[0] else ids


def contents(
    counts: Sequence[Counts], clusters: Int[np.ndarray, " N"], classes: Classes, *, total: int
) -> Contents:
    """What the images of a part show; images without a pixel of any class are left out."""
    pixels = np.zeros((len(counts), len(classes.names)), np.int64)
    for row, one in zip(pixels, counts, strict=True):
        for raw, number in one.items():
            if raw in classes.ids:
                row[classes.ids[raw]] += number
    shown = pixels.any(1)
    return Contents(pixels=pixels[shown], clusters=clusters[shown], total=total)
