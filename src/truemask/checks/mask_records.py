"""What is kept of one sample in the pass over a part; the records of two passes are put together.

A record holds counts and thumbnails only, about 50 KB, and of a part at most 500 samples are read,
so that the memory of a pass is bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from truemask.checks.alignment import Fit, fit
from truemask.checks.mask_objects import Lost, lost_by_resizing
from truemask.checks.mask_values import Borders, look_at_borders
from truemask.checks.probe import Fault, Probe
from truemask.datasets.decoding import turn
from truemask.datasets.paired import nearest
from truemask.datasets.scanning import count_values
from truemask.labels import LabelMap, pack_rgb

THUMB = 128
"""Height and width of the thumbnail of a mask."""

IGNORED, UNKNOWN = -1, -2
"""Ids of pixels that are ignored, and of those whose value is no class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One sample, measured.

    Attributes:
        name: of the sample.
        image_path: the image's file, where it is known.
        mask_path: the mask's file, where it is known.
        image_size: height and width of the image, None where there is none.
        mask_size: height and width of the mask, None where there is none.
        orientation: as in the `Probe`; likewise `stored`, `mask_stored`, `lossy`, `fraction`,
            `fractions` and `fault`.
        colored: whether the mask holds colours; values are packed then.
        pixels: value -> pixels.
        borders: what lies at the borders of the mask.
        blended: value -> thin runs of it between others; class ids where every value is of a class.
        lines: which share of those runs is of values that hardly occur elsewhere, as the outline in
            a trimap does.
        values: (128, 128) thumbnail of the mask by the nearest pixels.
        fit: how the mask fits the image; None where that cannot be measured.
        lost: value -> objects lost by the resize to the training size, where that is given.
    """

    name: str
    image_path: Path | None
    mask_path: Path | None
    image_size: tuple[int, int] | None
    mask_size: tuple[int, int] | None
    orientation: int
    stored: tuple[int, int] | None
    mask_stored: bool
    lossy: str
    fraction: float | None
    fractions: float
    fault: Fault | None
    colored: bool = False
    pixels: Mapping[int, int] = field(default_factory=dict)
    borders: Borders = field(default_factory=Borders)
    blended: Mapping[int, int] = field(default_factory=dict)
    lines: float = 0.0
    values: Int[np.ndarray, "128 128"] | None = None
    fit: Fit | None = None
    lost: Mapping[int, Lost] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The mask's file, or the name of the sample."""
        return str(self.mask_path or self.name)


def record_of(
    probe: Probe, *, labels: LabelMap | None = None, train_size: tuple[int, int] | None = None
) -> Record:
    """Measure a sample; everything that the rules of masks need, in one go.

    Args:
        probe: the sample.
        labels: what raw values mean, so that borders are looked at between classes where every
            value is one.
        train_size: height and width that masks are resized to for training.
    """
    mask = probe.mask
    common: dict[str, Any] = {
        name: getattr(probe, name)
        for name in (
            "name", "image_path", "mask_path", "orientation", "stored", "mask_stored", "lossy",
            "fraction", "fractions", "fault",
        )
    }  # fmt: skip
    common["image_size"] = None if probe.image is None else probe.image.shape[:2]
    if mask is None or mask.size == 0:
        return Record(**common, mask_size=None)
    pixels = count_values(mask)
    classes = _by_class(mask, pixels, labels)
    borders, blended = look_at_borders(classes)
    small = nearest(mask, (THUMB, THUMB))
    return Record(
        **common,
        mask_size=mask.shape[:2],
        colored=mask.ndim == 3,
        pixels=pixels,
        borders=borders,
        blended=blended,
        lines=_share_of_lines(blended, pixels if classes is mask else count_values(classes)),
        values=(pack_rgb(small) if small.ndim == 3 else small).astype(np.int32),
        fit=_fit(probe),
        lost=lost_by_resizing(_flat(mask), train_size) if train_size else {},
    )


def _share_of_lines(blended: Mapping[int, int], pixels: Mapping[int, int]) -> float:
    # A run of at most three pixels, of which nearly all pixels are in such runs.
    lines = sum(runs for value, runs in blended.items() if pixels.get(value, 0) < 4 * runs)
    return lines / max(sum(blended.values()), 1)


def _by_class(
    mask: Shaped[np.ndarray, "H W *C"], pixels: Mapping[int, int], labels: LabelMap | None
) -> Shaped[np.ndarray, "H W *C"]:
    """Class ids where every value is of a class, as values may count votes; else the values."""
    if labels is None or not pixels.keys() <= labels.values.keys():
        return mask
    if (mask.ndim == 3) != (labels.encoding == "colors"):
        return mask
    return labels.encode(mask)


def _flat(mask: Shaped[np.ndarray, "H W *C"]) -> Shaped[np.ndarray, "H W"]:
    return pack_rgb(mask) if mask.ndim == 3 else mask


def _fit(probe: Probe) -> Fit | None:
    image, mask = probe.image, probe.mask
    if image is None or mask is None or image.shape[:2] != mask.shape[:2]:
        return None
    other = None
    if probe.orientation != 1 and not probe.mask_stored:
        # The mask as it would lie if it had been drawn on the pixels as their file stores them.
        turned = turn(mask, probe.orientation)
        other = turned if turned.shape[:2] == mask.shape[:2] else None
    return fit(image, mask, as_stored=other)
