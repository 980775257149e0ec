"""Where an image lies on the earth."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an image lies on the earth.

    Attributes:
        transform: (a, b, c, d, e, f): a pixel's corner (x, y) lies at (ax + by + c, dx + ey + f).
        crs: the coordinate system as GeoJSON names it; empty for longitudes and latitudes of WGS84,
            which need no name.
        pixel_area: of a pixel in square metres, where the system is a projected one.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str
    pixel_area: float | None
