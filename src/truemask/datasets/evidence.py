"""What the masks of a folder hold together, and signs that these are no class labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from jaxtyping import Bool, Shaped

from truemask.datasets.mask_files import read_mask_raw
from truemask.datasets.scanning import MaskScan
from truemask.errors import UsageError

# More values than these in a typical mask: no annotator draws so many classes into one picture.
_MANY_VALUES = 32
# Masks that are read again to see where rare values lie.
_LOOKED_AT = 16


@dataclass(frozen=True)
class Evidence:
    """The values of all masks, in one encoding.

    Attributes:
        encoding: "ids" or "colors", as a `LabelMap` has it.
        scans: the masks.
        pixels: value -> number of pixels in all of them; packed colours for "colors".
        shown: value -> the packed colour that a palette gives it; empty without palettes.
        complete: whether every mask of the folder was read.
        reason: why the values are colours, for the notes.
    """

    encoding: Literal["ids", "colors"]
    scans: Sequence[MaskScan]
    pixels: Mapping[int, int]
    shown: Mapping[int, int]
    complete: bool
    reason: str = ""

    @property
    def values(self) -> list[int]:
        """The values that occur, ascending."""
        return sorted(self.pixels)

    def values_of(self, scan: MaskScan) -> Mapping[int, int]:
        """Value -> pixels of one mask, in this encoding."""
        return _as_colors(scan) if self.encoding == "colors" else scan.pixels

    def share(self, value: int) -> float:
        """Which share of all pixels has a value."""
        return self.pixels.get(value, 0) / sum(self.pixels.values())

    def show(self, value: int) -> str:
        """A value as the user knows it."""
        return str(value) if self.encoding == "ids" else f"#{value:06x}"

    def show_all(self, values: Sequence[int], limit: int = 12) -> str:
        """Many values, runs of ids drawn together."""
        if self.encoding == "ids" and len(values) > 3 and values[-1] - values[0] + 1 == len(values):
            return f"{values[0]} to {values[-1]}"
        shown = ", ".join(self.show(value) for value in values[:limit])
        return shown + (f" and {len(values) - limit} more" if len(values) > limit else "")


def gather(scans: Sequence[MaskScan], *, complete: bool, as_colors: bool | None = None) -> Evidence:
    """Put the masks together.

    Args:
        scans: the masks.
        complete: whether these are all masks.
        as_colors: whether values are ids or colours; None to tell by the files. They are colours if
            a mask is a true-colour file, or if palettes disagree on the colour of an index, as they
            do when a tool has shrunk colour masks to palettes file by file.

    Raises:
        UsageError: a 16-bit mask stands among colour masks.
    """
    reason = ""
    if as_colors is None:
        colored = next((scan for scan in scans if scan.colored), None)
        reason = f"{colored.path.name} is coloured" if colored else _palettes_disagree(scans)
        as_colors = reason != ""
    pixels: Counter[int] = Counter()
    for scan in scans:
        pixels.update(_as_colors(scan) if as_colors else scan.pixels)
    indexed = [scan.shown for scan in scans if scan.indexed and scan.shown is not None]
    shown = {value: color for colors in reversed(indexed) for value, color in colors.items()}
    return Evidence(
        "colors" if as_colors else "ids",
        scans,
        pixels,
        {} if as_colors else shown,
        complete,
        reason,
    )


def _palettes_disagree(scans: Sequence[MaskScan]) -> str:
    colors: dict[int, int] = {}
    for scan in scans:
        for value, color in (scan.shown or {}).items() if scan.indexed else ():
            if colors.setdefault(value, color) != color:
                return f"palettes disagree on index {value}, as that of {scan.path.name} shows"
    return ""


def _as_colors(scan: MaskScan) -> Mapping[int, int]:
    if scan.shown is None:
        raise UsageError(f"{scan.path} is a 16-bit mask among masks of colours: save all alike")
    pixels: Counter[int] = Counter()
    for value, count in scan.pixels.items():
        pixels[scan.shown[value]] += count
    return pixels


def refuse_what_is_no_class(evidence: Evidence) -> None:
    """Refuse masks whose values cannot be classes.

    Raises:
        UsageError: they look like smoothly resized or formerly JPEG masks, like numbers of
            instances, or hold a single value.
    """
    values = evidence.values
    where = f"{evidence.scans[0].path.parent}: "
    way_out = "list the classes in classes.json if they are meant so"
    if len(values) == 1:
        raise UsageError(
            f"{where}all masks hold the value {evidence.show(values[0])} only, so that there is "
            "nothing to learn: are these the masks?"
        )
    each = median(len(evidence.values_of(scan)) for scan in evidence.scans)
    if each > _MANY_VALUES:
        raise UsageError(
            f"{where}a typical mask holds {each:.0f} different values, as masks do that went "
            "through JPEG or a smooth resize: export them again as PNG, resized by nearest "
            "neighbour; if they are meant so, list the classes in classes.json (at most 255)"
        )
    if len(values) > 255:
        raise UsageError(
            f"{where}the masks hold {len(values)} different values, too many for classes (at most "
            "255); do they number instances? Write masks of class ids"
        )
    if maxima := _instance_maxima(evidence):
        raise UsageError(
            f"{where}every mask is numbered without a gap, up to {min(maxima)} in one and "
            f"{max(maxima)} in another, as instances or regions are, not classes: write masks of "
            f"class ids, or {way_out}"
        )
    if blended := _blended_values(evidence):
        raise UsageError(
            f"{where}the values {evidence.show_all(blended)} occur only between lower and higher "
            "ones, as a smooth resize leaves them: export the masks again, resized by nearest "
            f"neighbour, or {way_out}"
        )


def _instance_maxima(evidence: Evidence) -> list[int]:
    """The greatest value of each mask if nearly all are numbered without a gap, else nothing."""
    if evidence.encoding == "colors" or len(evidence.scans) < 5 or len(evidence.values) <= 10:
        return []
    ranges = [sorted(scan.pixels) for scan in evidence.scans]
    dense = [r for r in ranges if r[0] <= 1 and r[-1] - r[0] + 1 == len(r)]
    maxima = [r[-1] for r in dense]
    return maxima if len(dense) >= 0.9 * len(ranges) and len(set(maxima)) >= 4 else []


def _blended_values(evidence: Evidence) -> list[int]:
    """Values most of whose pixels lie on a slope from a lower to a higher value.

    A border between two classes that was resized smoothly is such a slope. Palette indices have no
    order, and steps of less than 8 are no slope, so that small ids are safe.
    """
    rare = {value for value in evidence.values if evidence.share(value) < 0.05}
    total: Counter[int] = Counter()
    sloping: Counter[int] = Counter()
    suspects = [
        scan
        for scan in evidence.scans
        if not scan.indexed and rare & evidence.values_of(scan).keys()
    ]
    for scan in suspects[:_LOOKED_AT]:
        raw = read_mask_raw(scan.path, colors=evidence.encoding == "colors")
        total.update(_count(raw, np.ones(raw.shape[:2], dtype=bool)))
        sloping.update(_count(raw, _on_slope(raw)))
    return [value for value in sorted(rare) if total[value] and sloping[value] > total[value] / 2]


def _count(raw: Shaped[np.ndarray, "H W *C"], where: Bool[np.ndarray, "H W"]) -> Counter[int]:
    pixels = raw[where].astype(np.int64)
    if raw.ndim == 3:
        pixels = pixels @ np.array([1 << 16, 1 << 8, 1])
    values, counts = np.unique(pixels, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _on_slope(raw: Shaped[np.ndarray, "H W *C"]) -> Bool[np.ndarray, "H W"]:
    """Pixels that lie between their two neighbours, in place and in value, in some direction."""
    levels = (raw if raw.ndim == 3 else raw[..., None]).astype(np.int32)
    height, width = raw.shape[:2]
    found = np.zeros((height, width), dtype=bool)
    if min(height, width) < 3:
        return found
    middle = levels[1:-1, 1:-1]
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        before = levels[1 - down : height - 1 - down, 1 - right : width - 1 - right]
        after = levels[1 + down : height - 1 + down, 1 + right : width - 1 + right]
        up, on = middle - before, after - middle
        steep = (np.abs(up).max(-1) >= 8) & (np.abs(on).max(-1) >= 8)
        found[1:-1, 1:-1] |= steep & (up * on >= 0).all(-1)
    return found
