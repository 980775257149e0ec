"""What a prediction is asked for."""

from dataclasses import asdict, dataclass
from typing import Any

from truemask.errors import UsageError
from truemask.inference.lowered import Precision

SMALLEST_TILE = 512

FORMATS = ("geojson", "labelme", "coco")
"""Files that outlines of regions can be written to."""

SCALES = (0.1, 10.0)
"""The least and the greatest size, in units of the image's own."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How images are predicted, and what is written of them.

    Attributes:
        tile: largest side of a tile in pixels; `None` cuts only images above 2048x2048 pixels.
        flips: whether to average over the image and its mirror images, upright and upside down.
        scales: sizes at which the image is predicted, of which the probabilities are averaged.
        overlay: whether to write overlays.
        probabilities: whether to write the probability of each class.
        polygons: files of outlines to write, some of `FORMATS`.
        bands: channels of a raster to take, counted from 1; `None` takes all but an alpha channel.
        precision: in which the network computes; see `inference.lowered`.

    Raises:
        UsageError: a value is none of these.
    """

    tile: int | None = None
    flips: bool = False
    scales: tuple[float, ...] = (1.0,)
    overlay: bool = False
    probabilities: bool = False
    polygons: tuple[str, ...] = ()
    bands: tuple[int, ...] | None = None
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise UsageError(f"--tile {self.tile} is too small: give at least {SMALLEST_TILE}")
        low, high = SCALES
        for scale in self.scales:
            if not low <= scale <= high:
                raise UsageError(f"--scales {scale:g} is not from {low:g} to {high:g}")
        if not self.scales or len(set(self.scales)) != len(self.scales):
            raise UsageError("--scales must name each scale once, such as 0.75,1,1.25")
        if strange := [name for name in self.polygons if name not in FORMATS]:
            raise UsageError(f"--polygons {strange[0]} is none of {', '.join(FORMATS)}")
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise UsageError("--bands counts from 1, such as 1,2,3")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
