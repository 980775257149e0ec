"""Sizes of images: how a model's output follows from its input, and where to cut a crop."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """How the size of the output follows from that of the input.

    Attributes:
        kind: "same"; "valid", smaller by the same margin for every size, as convolutions without
            padding make it; "scaled", a constant ratio; "other".
        margin: pixels that the output lacks on each side.
        ratio: of the output's size to the input's.
    """

    kind: str
    margin: tuple[int, int] = (0, 0)
    ratio: float = 1.0


def geometry_of(seen: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Geometry:
    """Args: sizes of inputs, each with that of its output."""
    if all(before == after for before, after in seen):
        return Geometry("same")
    margins = {
        (rows - out_rows, columns - out_columns)
        for (rows, columns), (out_rows, out_columns) in seen
    }
    rows, columns = next(iter(margins))
    if len(margins) == 1 and rows == columns and rows > 0 and rows % 2 == 0:
        return Geometry("valid", margin=(rows // 2, columns // 2))
    ratio = _ratio(seen[0][0][0], seen[0][1][0])
    if ratio is None or any(
        _ratio(before, after) != ratio
        for sizes in seen
        for before, after in zip(*sizes, strict=True)
    ):
        return Geometry("other")
    return Geometry("scaled", ratio=ratio)


def _ratio(before: int, after: int) -> float | None:
    """The output's share of the input's side, 1/n (rounded up) or n."""
    if after >= before:
        return float(after // before) if after % before == 0 else None
    factor = round(before / after)
    return 1 / factor if after in (before // factor, -(-before // factor)) else None


def window_of_most_classes(
    ids: Int64[Tensor, "B H W"] | None,
    size: tuple[int, int],
    window: tuple[int, int],
    num_classes: int,
) -> tuple[slice, slice]:
    """Of windows half a window apart, the one whose classes are most evenly shared.

    Args:
        ids: class ids; without them it is the first window.
        size: height and width of the images.
        window: height and width of the window.
        num_classes: of the masks.
    """
    (height, width), (rows, columns) = size, window
    places = [
        (slice(top, top + rows), slice(left, left + columns))
        for top in range(0, height - rows + 1, max(rows // 2, 1))
        for left in range(0, width - columns + 1, max(columns // 2, 1))
    ]
    if ids is None:
        return places[0]

    def evenness(place: tuple[slice, slice]) -> float:
        inside = ids[(..., *place)]
        inside = inside[(inside >= 0) & (inside < num_classes)]
        shares = inside.bincount().double() / max(ids.numel(), 1)
        return float(torch.special.entr(shares).sum())

    return max(places, key=evenness)
