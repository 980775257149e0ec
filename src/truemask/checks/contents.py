"""How many pixels of each class the images of a part show."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from truemask.checks.mask_part import Meanings
from truemask.checks.mask_records import Record
from truemask.checks.parts import Contents


def contents(
    records: Sequence[Record],
    clusters: Int[np.ndarray, " N"],
    meanings: Meanings,
    *,
    total: int,
) -> Contents:
    """What the images of a part show; images without a pixel of any class are left out.

    Args:
        records: of the masks that could be read.
        clusters: which of them belong together.
        meanings: which value is which class.
        total: how many samples the part has.
    """
    pixels = np.zeros((len(records), len(meanings.names)), np.int64)
    for row, record in zip(pixels, records, strict=True):
        for value, number in record.pixels.items():
            if value in meanings.ids:
                row[meanings.ids[value]] += number
    shown = pixels.any(1)
    return Contents(pixels=pixels[shown], clusters=clusters[shown], total=total)
