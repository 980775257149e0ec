"""Where training images lie among figures, and from which distance on another is unlike them.

All first figures are looked at together, and small parts of them for themselves: one or two that
lie far outside hardly count in a distance over eighteen, whose limit is the sum of all deviations.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from truemask.checks.input_features import FIRST, NAMES

_FLOOR = 0.02
"""Least deviation of a figure: a fiftieth of the range of light, a tenth of detail."""

_NEAREST = 3
"""Training images to which an image's distance is measured."""

_LEFT_OUT = 0.02
"""Share of the training images, the most like it, that do not vouch for a training image."""

_USUAL = 0.99
"""Share of the training images to which the limit is held, so that a single one does not set it."""

_FURTHER, _FURTHER_FIRST = 1.36, 1.4
"""How much farther than these an image must be; the latter by notes in the first format."""

_SHRINKAGE = 0.5
"""How much the covariance is drawn to none, for each figure that an image has to speak for."""

_FEW = 8.0
"""With so many training images a limit is twice as wide: the farthest of few is not far."""

_NOISE = 0.005
"""How much a figure of a small part varies without a reason, added to its deviation."""

_LEAST = 0.3
"""Least distance, in deviations, that a limit starts from: of images that are all the same."""

ALL = "all figures"
_PARTS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("light and colour", 1.5,
     ("blown-out share", "colour detail", "red against green", "blue against green")),
    ("tint", 2.0, ("red beyond green", "blue beyond green", "blue-red spread")),
    ("strength of colours", 1.7,
     ("red-green spread", "blue-green spread", "blue-red spread", "colourfulness")),
    ("sharpness", 2.5, ("fine sharpness", "middle sharpness", "edge sharpness")),
    ("layout", 2.1, ("light above", "light in the middle", "detail above")),
)  # fmt: skip
"""Name, how much farther than the usual an image must be, and figures."""

PARTS = (ALL, *(name for name, _, _ in _PARTS))


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Where training images lie in some figures.

    Attributes:
        name: one of `PARTS`.
        columns: of the figures.
        whitening: takes these to coordinates in which they vary alike in all directions.
        places: of the training images, in these coordinates.
        limit: distance from which on an image is unlike them.
    """

    name: str
    columns: Int64[np.ndarray, " F"]
    whitening: Float64[np.ndarray, "F F"]
    places: Float64[np.ndarray, "N F"]
    limit: float

    def distance(self, figures: Float64[np.ndarray, " G"]) -> float:
        """The mean distance of an image from the training images that are most like it."""
        place = figures[self.columns] @ self.whitening
        apart = np.linalg.norm(place - self.places, axis=1)
        return float(np.sort(apart)[:_NEAREST].mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Where training images lie.

    Attributes:
        low: of each figure the least.
        high: the greatest.
        spread: their deviation.
        parts: of `PARTS`; of notes in the first format only that of all figures.
    """

    low: Float64[np.ndarray, " G"]
    high: Float64[np.ndarray, " G"]
    spread: Float64[np.ndarray, " G"]
    parts: tuple[Part, ...]


def reference(table: Float64[np.ndarray, "N G"]) -> Reference:
    """Where images lie, and how far one of them is from the rest.

    Args:
        table: their figures; `FIRST` of them, as the first format has, or all of `NAMES`.
    """
    widened = 1 + _FEW / len(table)
    first = table.shape[1] == FIRST
    parts = [_together(table, _FURTHER_FIRST if first else _FURTHER * widened)]
    if not first:
        for name, further, figures in _PARTS:
            columns = np.array([NAMES.index(figure) for figure in figures])
            parts.append(_alone(name, table, columns, further * widened))
    return Reference(
        low=table.min(0), high=table.max(0), spread=table.std(0) + _FLOOR, parts=tuple(parts)
    )


def _together(table: Float64[np.ndarray, "N G"], further: float) -> Part:
    columns = np.arange(FIRST)
    some = table[:, columns]
    count, width = some.shape
    spread = some.std(0) + _FLOOR
    scaled = (some - some.mean(0)) / spread
    # The fewer images there are, the less their covariance is worth.
    shrink = min(1.0, _SHRINKAGE * width / count)
    covariance = (1 - shrink) * (scaled.T @ scaled / count) + shrink * np.eye(width)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)) / spread[:, None]
    places = some @ whitening
    limit = max(further * _usual(places), 1e-9)
    return Part(name=ALL, columns=columns, whitening=whitening, places=places, limit=limit)


def _alone(
    name: str, table: Float64[np.ndarray, "N G"], columns: Int64[np.ndarray, " F"], further: float
) -> Part:
    some = table[:, columns]
    count, width = some.shape
    covariance = np.cov(some.T, bias=True) + _NOISE**2 * np.eye(width)
    shrink = min(1.0, _SHRINKAGE * width / count)
    covariance = (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    places = some @ whitening
    limit = further * max(_usual(places), _LEAST)
    return Part(name=name, columns=columns, whitening=whitening, places=places, limit=limit)


def _usual(places: Float64[np.ndarray, "N F"]) -> float:
    """The distance from the others that nearly all images keep within."""
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    others = np.sort(apart, axis=1)[:, 1 + int(_LEFT_OUT * len(places)) :]
    return float(np.quantile(others[:, :_NEAREST].mean(1), _USUAL))
