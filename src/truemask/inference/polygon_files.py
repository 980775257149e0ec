"""Outlines of the regions of a mask, in files that other programs read.

OUT/<name>.geojson        a feature for each region, in the coordinates of the raster, else pixels
OUT/<name>.labelme.json   shapes for LabelMe, to be painted in this order
OUT/<name>.coco.json      a COCO data set of this image, a run-length encoded mask a region; those
                          of all images become one file (`coco_file.py`)
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8

from truemask.files import write_text
from truemask.inference.places import Place
from truemask.inference.polygons import Region, Ring, ring_area, trace_regions
from truemask.inference.target import Target
from truemask.labels import LabelMap
from truemask.regions import Runs


def write_polygons(
    target: Target,
    ids: UInt8[np.ndarray, "H W"],
    labels: LabelMap,
    kinds: Sequence[str],
    *,
    place: Place | None = None,
) -> None:
    """Write the outlines of a mask.

    Args:
        target: the image, which says where the files go.
        ids: class ids.
        labels: what they mean.
        kinds: the files to write, of `settings.FORMATS`.
        place: where the image lies; `None` for pixel coordinates.

    Raises:
        UsageError: a file cannot be written.
    """
    regions = trace_regions(ids)
    for kind in kinds:
        if kind == "geojson":
            value = geojson(regions, labels, place)
        elif kind == "labelme":
            value = labelme(regions, labels, ids.shape, image=_seen_from(target))
        else:
            value = coco(ids, labels, image=_below_input(target))
        write_text(target.polygons(kind), json.dumps(value, ensure_ascii=False) + "\n")


def _below_input(target: Target) -> str:
    """The image's path below what was given, with the very name of its file."""
    if target.frame is not None:
        return target.name
    return str(PurePosixPath(target.name).with_name(target.source.name))


def _seen_from(target: Target) -> str:
    """The image as LabelMe looks for it, from the folder of its own file; of a URL that."""
    if target.url or target.stored is not None:
        return target.given
    if target.bucket:
        return str(target.source.resolve())
    folder = target.polygons("labelme").resolve().parent
    return os.path.relpath(target.source.resolve(), folder)


def geojson(regions: Sequence[Region], labels: LabelMap, place: Place | None) -> dict[str, Any]:
    """A feature for each region but the ignored ones.

    RFC 7946 knows longitudes and latitudes of WGS84 alone. What lies in another system keeps its
    coordinates and names it by the member `crs` of the format's first version (2008), as GDAL and
    QGIS write and read it: bent onto the globe, outlines would no longer meet the pixels.
    """
    features = []
    for region in regions:
        if region.class_id == labels.ignore_index:
            continue
        properties: dict[str, Any] = {
            "class": labels.names[region.class_id],
            "id": region.class_id,
            "pixels": region.pixels,
        }
        if place is not None and place.pixel_area is not None:
            properties["area_m2"] = region.pixels * place.pixel_area
        rings = [_closed(ring, place) for ring in (region.outline, *region.holes)]
        geometry = {"type": "Polygon", "coordinates": rings}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    value: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if place is not None and place.crs:
        value["crs"] = {"type": "name", "properties": {"name": place.crs}}
    return value


def _closed(ring: Ring, place: Place | None) -> list[list[float]]:
    closed: np.ndarray[Any, Any] = np.concatenate((ring, ring[:1]))
    if place is not None:
        a, b, c, d, e, f = place.transform
        x, y = closed[:, 0], closed[:, 1]
        closed = np.stack((a * x + b * y + c, d * x + e * y + f), axis=1)
        if a * e - b * d < 0:
            # What runs clockwise on the image does so on the map; the format wants the contrary.
            closed = closed[::-1]
    points: list[list[float]] = closed.tolist()
    return points


def labelme(
    regions: Sequence[Region], labels: LabelMap, size: tuple[int, ...], *, image: str
) -> dict[str, Any]:
    """A shape for each region, the larger ones first.

    LabelMe knows no holes: it paints shapes one over the other. What lies in a hole is smaller
    than what surrounds it, and comes later.
    """
    ordered = sorted(regions, key=lambda region: -ring_area(region.outline))
    shapes = [
        {
            "label": _name(region.class_id, labels),
            "points": region.outline.astype(float).tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for region in ordered
    ]
    return {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def _name(class_id: int, labels: LabelMap) -> str:
    return labels.ignore_name if class_id == labels.ignore_index else labels.names[class_id]


def coco(ids: UInt8[np.ndarray, "H W"], labels: LabelMap, *, image: str) -> dict[str, Any]:
    """A data set of one image, with an annotation for each region but the ignored ones.

    Masks are run lengths, as COCO's polygons know no holes. Category ids are class ids.
    """
    height, width = ids.shape
    return {
        "images": [{"id": 1, "file_name": image, "height": height, "width": width}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(labels.names)],
        "annotations": [
            {"id": number, "image_id": 1, "iscrowd": 0, **one}
            for number, one in enumerate(_annotations(ids, labels), start=1)
        ],
    }


def _annotations(ids: UInt8[np.ndarray, "H W"], labels: LabelMap) -> list[Mapping[str, Any]]:
    height, width = ids.shape
    # COCO counts down the columns.
    turned = Runs.of(np.ascontiguousarray(Runs.of(ids).numbered().T))
    order = np.argsort(turned.values, kind="stable")
    _, firsts = np.unique(turned.values[order], return_index=True)
    found: list[Mapping[str, Any]] = []
    for runs in np.split(order, firsts[1:]):
        starts, lengths = turned.starts[runs], turned.lengths[runs]
        ends = starts + lengths
        class_id = int(ids[starts[0] % height, starts[0] // height])
        if class_id == labels.ignore_index:
            continue
        gaps = starts - np.concatenate(([0], ends[:-1]))
        counts = np.stack((gaps, lengths), axis=1).ravel().tolist()
        if ends[-1] < height * width:
            counts.append(int(height * width - ends[-1]))
        left, right = starts[0] // height, starts[-1] // height + 1
        top, bottom = (starts % height).min(), ((ends - 1) % height).max() + 1
        box = [int(left), int(top), int(right - left), int(bottom - top)]
        found.append(
            {
                "category_id": class_id,
                "segmentation": {"size": [height, width], "counts": counts},
                "area": int(lengths.sum()),
                "bbox": box,
            }
        )
    return found
