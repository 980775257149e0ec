"""Outlines, held against filling them pixel by pixel, and against rasterio."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from truemask.inference.places import Place
from truemask.inference.polygon_files import coco, geojson, labelme, write_polygons
from truemask.inference.polygons import ring_area, trace_regions
from truemask.inference.target import Target
from truemask.labels import LabelMap

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})
PLACE = Place(transform=(0.5, 0.0, 4e5, 0.0, -0.25, 5.7e6), crs="urn:x", pixel_area=0.125)

masks = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
    elements=st.sampled_from([0, 1, 2, 255]),
)


def inside(ring: Any, height: int, width: int) -> np.ndarray[Any, Any]:
    """Whether a ray from a pixel's centre to the left crosses the ring an odd number of times."""
    parity = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        assert (x0 == x1) != (y0 == y1)
        if x0 == x1:
            low, high = sorted((int(y0), int(y1)))
            parity[low:high, int(x0) :] ^= True
    return parity


@settings(max_examples=150, deadline=None, derandomize=True)
@given(masks)
def test_filling_the_outlines_gives_the_mask_back(ids: np.ndarray[Any, Any]) -> None:
    filled = np.full(ids.shape, 77, np.uint8)
    regions = trace_regions(ids)
    for region in regions:
        own = inside(region.outline, *ids.shape)
        assert ring_area(region.outline) == own.sum()
        for hole in region.holes:
            gap = inside(hole, *ids.shape)
            assert ring_area(hole) == -gap.sum()
            assert (own & gap).sum() == gap.sum()
            own &= ~gap
        assert own.sum() == region.pixels
        assert (filled[own] == 77).all()
        filled[own] = region.class_id
    assert np.array_equal(filled, ids)
    # As many regions as another library finds.
    assert len(regions) == sum(ndimage.label(ids == value)[1] for value in np.unique(ids))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(masks)
def test_no_corner_lies_within_a_straight_line(ids: np.ndarray[Any, Any]) -> None:
    for region in trace_regions(ids):
        for ring in (region.outline, *region.holes):
            steps = np.sign(np.roll(ring, -1, axis=0) - ring)
            assert (steps * np.roll(steps, -1, axis=0)).sum(1).tolist() == [0] * len(ring)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(masks)
def test_labelme_painted_in_order_is_the_mask(ids: np.ndarray[Any, Any]) -> None:
    value = labelme(trace_regions(ids), LABELS, ids.shape, image="a.jpg")
    painted = np.full(ids.shape, 77, np.uint8)
    known = {"sky": 0, "road": 1, "tree": 2, "ignored": 255}
    for shape in value["shapes"]:
        painted[inside(np.array(shape["points"]), *ids.shape)] = known[shape["label"]]
    assert np.array_equal(painted, ids)
    assert (value["imageHeight"], value["imageWidth"]) == ids.shape


@settings(max_examples=60, deadline=None, derandomize=True)
@given(masks)
def test_coco_runs_decode_to_the_mask(ids: np.ndarray[Any, Any]) -> None:
    value = coco(ids, LABELS, image="a.jpg")
    decoded = np.full(ids.shape, 255, np.uint8)
    for one in value["annotations"]:
        counts = one["segmentation"]["counts"]
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        own = flat.reshape(ids.shape[::-1]).T.astype(bool)
        assert own.sum() == one["area"]
        left, top, width, height = one["bbox"]
        rows, columns = np.nonzero(own)
        assert (columns.min(), rows.min()) == (left, top)
        assert (columns.max() + 1 - left, rows.max() + 1 - top) == (width, height)
        decoded[own] = one["category_id"]
    assert np.array_equal(decoded, ids)
    numbers = [one["id"] for one in value["annotations"]]
    assert len(set(numbers)) == len(numbers)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(masks, st.sampled_from([None, PLACE]))
def test_geojson_is_burnt_into_the_mask_by_gdal(
    ids: np.ndarray[Any, Any], place: Place | None
) -> None:
    features = pytest.importorskip("rasterio.features")
    affine = pytest.importorskip("affine")
    value = geojson(trace_regions(ids), LABELS, place)
    assert ("crs" in value) == (place is not None)
    burnt = np.full(ids.shape, 255, np.uint8)
    shapes = [(one["geometry"], one["properties"]["id"]) for one in value["features"]]
    transform = affine.Affine(*place.transform) if place else affine.identity
    if shapes:
        features.rasterize(shapes, out=burnt, transform=transform)
    assert np.array_equal(burnt, ids)
    for one in value["features"]:
        outline, *holes = one["geometry"]["coordinates"]
        # The right-hand rule of RFC 7946.
        assert signed(outline) > 0
        assert all(signed(hole) < 0 for hole in holes)
        assert outline[0] == outline[-1]
        if place is not None:
            assert one["properties"]["area_m2"] == one["properties"]["pixels"] / 8


def signed(ring: list[list[float]]) -> float:
    points = np.array(ring) - ring[0]
    x, y = points[:-1].T
    x1, y1 = points[1:].T
    return float((x * y1 - x1 * y).sum() / 2)


def test_they_are_written(tmp_path: Path) -> None:
    target = Target(
        source=Path("in/ü x.jpg"), name="ü x.jpg", stem=tmp_path / "ü x", folder=tmp_path
    )
    ids = np.array([[0, 0, 1], [0, 2, 1]], np.uint8)
    write_polygons(target, ids, LABELS, ("geojson", "labelme", "coco"))
    found = {file.name: json.loads(file.read_text()) for file in tmp_path.iterdir()}
    assert sorted(found) == ["ü x.coco.json", "ü x.geojson", "ü x.labelme.json"]
    assert len(found["ü x.geojson"]["features"]) == 3
    assert found["ü x.geojson"]["features"][1]["geometry"]["coordinates"] == [
        [[2, 0], [3, 0], [3, 2], [2, 2], [2, 0]]
    ]
    assert found["ü x.coco.json"]["images"][0]["file_name"] == "ü x.jpg"
    # LabelMe looks for the image from the folder of its own file.
    seen = tmp_path / found["ü x.labelme.json"]["imagePath"]
    assert os.path.normpath(seen) == os.path.realpath("in/ü x.jpg")


def test_names_that_are_no_utf_8_come_back_as_they_are(tmp_path: Path) -> None:
    source = Path(os.fsdecode(b"in/a\xff.jpg"))
    target = Target(source=source, name="a.jpg", stem=tmp_path / "a", folder=tmp_path)
    write_polygons(target, np.zeros((2, 3), np.uint8), LABELS, ("labelme", "coco"))
    seen = json.loads((tmp_path / "a.labelme.json").read_text())["imagePath"]
    assert os.path.normpath(tmp_path / seen) == os.path.realpath(source)
    assert json.loads((tmp_path / "a.coco.json").read_text())["images"][0]["file_name"] == (
        source.name
    )


@pytest.mark.slow
def test_a_noisy_mask_takes_seconds() -> None:
    ids = np.random.default_rng(0).integers(0, 3, (1000, 1000), dtype=np.uint8)
    assert sum(region.pixels for region in trace_regions(ids)) == ids.size
