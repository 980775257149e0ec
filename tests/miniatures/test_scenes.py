import numpy as np
import pytest

from truemask.miniatures.scenes import (
    Canvas,
    borders,
    ellipse,
    generator,
    layered,
    noise,
    outlines,
    rectangle,
    textured,
    through_lens,
)


def test_a_generator_belongs_to_its_address():
    draws = {
        address: generator(0, *address).integers(2**62)
        for address in [("a", 1), ("a", 2), ("b", 1), ("a",), ("a", 1, 1)]
    }
    assert len(set(draws.values())) == len(draws)
    assert generator(0, "a", 1).integers(2**62) == draws["a", 1]
    assert generator(1, "a", 1).integers(2**62) != draws["a", 1]


def test_the_canvas_knows_the_last_object_painted_on_each_pixel():
    canvas = Canvas(8, 6)
    canvas.start(5, depth=10.0)
    canvas.polygon(rectangle(0, 0, 3, 5), (200, 10, 10))
    canvas.start(7, depth=4.0)
    canvas.polygon(rectangle(2, 2, 5, 3), (10, 200, 10))
    expected = np.zeros((6, 8), dtype=int)
    expected[:, :4] = 1
    expected[2:4, 2:6] = 2
    np.testing.assert_array_equal(canvas.objects, expected)
    np.testing.assert_array_equal(canvas.classes, np.array([0, 5, 7])[expected])
    assert canvas.depths[1:] == [10.0, 4.0]
    assert canvas.colors[3, 3].tolist() == [10, 200, 10]


def test_a_detail_changes_colours_only():
    canvas = Canvas(4, 4)
    canvas.start(1)
    canvas.polygon(rectangle(0, 0, 3, 3), (50, 50, 50))
    before = canvas.objects.copy()
    canvas.start(2)
    canvas.detail(rectangle(1, 1, 2, 2), (90, 90, 90))
    np.testing.assert_array_equal(canvas.objects, before)
    assert canvas.colors[1, 1].tolist() == [90, 90, 90]


def test_far_points_and_wild_colours_are_bounded():
    canvas = Canvas(4, 4)
    canvas.start(1)
    canvas.polygon([(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)], (-40, 300, 1e6))
    assert (canvas.classes == 1).all()
    assert canvas.colors[0, 0].tolist() == [0, 255, 255]


def test_lamps_outside_of_the_picture_do_not_count():
    canvas = Canvas(4, 4)
    canvas.glow((-1, 2), 1, (9, 9, 9))
    canvas.glow((2, 2), 1, (9, 9, 9))
    assert [place for place, _, _ in canvas.glows] == [(2, 2)]


def test_outlines_are_one_pixel_wide_and_borders_two():
    objects = np.zeros((5, 6), dtype=np.int32)
    objects[:, 3:] = 1
    np.testing.assert_array_equal(np.flatnonzero(outlines(objects).all(0)), [2])
    np.testing.assert_array_equal(np.flatnonzero(borders(objects).all(0)), [2, 3])
    assert outlines(objects).sum() == 5
    assert borders(objects).sum() == 10
    assert not borders(np.zeros((3, 3), dtype=np.int32)).any()


@pytest.mark.parametrize("grain", [1.0, 4.0, (9.0, 1.5)])
def test_noise_is_centred_and_about_as_strong_at_every_grain(grain):
    field = noise(np.random.default_rng(0), 200, 300, grain)
    assert field.shape == (200, 300)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.1
    assert 0.7 < field.std() < 1.3


def test_coarse_noise_is_smooth():
    fine, coarse = (noise(np.random.default_rng(0), 100, 100, grain) for grain in (1, 10))
    assert np.abs(np.diff(coarse)).mean() < 0.3 * np.abs(np.diff(fine)).mean()
    assert layered(np.random.default_rng(0), 20, 30, (10, 3)).shape == (20, 30)


def test_each_object_has_texture_of_its_own_strength():
    canvas = Canvas(60, 40)
    canvas.start(1)
    canvas.polygon(rectangle(0, 0, 59, 39), (100, 100, 100))
    canvas.start(2)
    canvas.polygon(rectangle(30, 0, 59, 39), (100, 100, 100))
    colors = textured(canvas, np.random.default_rng(0), [(0, 0), (0, 0), (0.1, 0.1)])
    assert (colors[:, :30] == 100).all()
    assert colors[:, 30:].std() > 3


def test_the_lens_keeps_shape_and_gives_bytes():
    colors = np.full((20, 30, 3), 120, dtype=np.float32)
    photo = through_lens(colors, np.random.default_rng(0))
    assert photo.shape == (20, 30, 3)
    assert photo.dtype == np.uint8
    assert 60 < photo.mean() < 200
    assert photo.std() > 1


def test_an_ellipse_has_its_radii():
    points = np.array(ellipse((10, 20), (4, 2), corners=64))
    np.testing.assert_allclose(points.min(0), (6, 18), atol=0.01)
    np.testing.assert_allclose(points.max(0), (14, 22), atol=0.01)
