"""Every encoding of images, against arrays that are known, and every refusal."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import photo, png_of_samples, refused, save, save_palette, tiff_of_samples
from PIL import Image, ImageOps

from truemask.datasets import decoding
from truemask.datasets.decoding import image_size, load_shrunk, open_image, turn
from truemask.datasets.reading import read_image, read_image_and_frame
from truemask.images import RGB, ImageSpec, resize_image

GREY = ImageSpec(channels=1)
DATA = Path(__file__).parents[2] / "../shared/data"
UNIT = ImageSpec(channels=1, dtype="float32", low=-1.0, high=1.0)


def read(path, spec=RGB):
    image = read_image(path, spec)
    return image.permute(1, 2, 0).numpy()


def scenery(height, width, seed=0):
    """Noise of every scale, the finer the weaker, as photos have it, with hard edges in it."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (3, 12, 48, 192):
        for channel in range(3):
            coarse = Image.fromarray(random.standard_normal((cells, cells)).astype(np.float32))
            picture[..., channel] += np.array(coarse.resize((width, height), 3)) * 120 / cells**0.5
    picture[height // 3 :, width // 2 : width * 3 // 4] += 90
    return (picture + 110).clip(0, 255).astype(np.uint8)


def difference(path, size, spec=RGB):
    """Mean over pixels between reading small and making small what was read whole, in levels."""
    small, whole = read_image(path, spec, size=size), read_image(path, spec)
    assert small.shape == (spec.channels, *size)
    assert small.dtype == whole.dtype == spec.torch_dtype
    levels = 255 / (spec.high - spec.low)
    return (small.float() - resize_image(whole, size).float()).abs().mean().item() * levels


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_give_the_pixels_that_were_saved(tmp_path, ending):
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"x.{ending}", photo(), **options)
    assert np.array_equal(read(path), photo())
    assert image_size(path) == (24, 32)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
def test_tiff_compressions(tmp_path, compression):
    path = save(tmp_path / "x.tif", photo(), compression=compression)
    assert np.array_equal(read(path), photo())


def test_jpeg_and_gif_give_what_pillow_gives(tmp_path):
    for ending in ("jpg", "gif"):
        path = save(tmp_path / f"x.{ending}", photo())
        with Image.open(path) as image:
            assert np.array_equal(read(path), np.array(image.convert("RGB")))


def test_the_format_is_told_by_the_content(tmp_path):
    path = save(tmp_path / "x.png", photo())
    path.rename(tmp_path / "x.jpg")
    assert np.array_equal(read(tmp_path / "x.jpg"), photo())


def test_image_has_dtype_and_layout_of_its_spec(tmp_path):
    path = save(tmp_path / "x.png", photo())
    image = read_image(path, RGB)
    assert image.shape == (3, 24, 32)
    assert image.dtype == torch.uint8
    assert type(image).__name__ == "Image"


def test_grey_becomes_rgb_and_equal_channels_become_grey(tmp_path):
    grey = photo()[..., 0]
    path = save(tmp_path / "g.png", grey)
    assert np.array_equal(read(path), np.stack([grey] * 3, -1))
    path = save(tmp_path / "e.png", np.stack([grey] * 3, -1))
    assert np.array_equal(read(path, GREY)[..., 0], grey)
    refused(save(tmp_path / "c.png", photo()), "colour image", lambda p: read_image(p, GREY))


def test_palette_one_bit_and_cmyk_images(tmp_path):
    ids = np.arange(24 * 32).reshape(24, 32) % 3
    colors = [(10, 20, 30), (200, 100, 50), (0, 255, 0)]
    path = save_palette(tmp_path / "p.png", ids, colors)
    assert np.array_equal(read(path), np.array(colors, dtype=np.uint8)[ids])
    path = save(tmp_path / "b.png", ids == 1)
    assert np.array_equal(read(path)[..., 0], (ids == 1) * np.uint8(255))
    cmyk = Image.fromarray(photo()).convert("CMYK")
    cmyk.save(tmp_path / "c.tif")
    assert np.array_equal(read(tmp_path / "c.tif"), np.array(cmyk.convert("RGB")))


def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path):
    rgba = np.dstack([photo(), np.full((24, 32), 255, np.uint8)])
    assert np.array_equal(read(save(tmp_path / "o.png", rgba)), photo())
    rgba[0, :5, 3] = 254
    refused(save(tmp_path / "t.png", rgba), "5 transparent pixels")
    grey_alpha = np.dstack([photo()[..., 0], np.full((24, 32), 255, np.uint8)])
    assert np.array_equal(read(save(tmp_path / "la.png", grey_alpha))[..., 2], photo()[..., 0])


def test_a_transparent_color_counts_only_where_it_occurs(tmp_path):
    image = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    image.save(tmp_path / "absent.png", transparency=(1, 2, 3))
    assert (read(tmp_path / "absent.png") == 7).all()
    image.save(tmp_path / "present.png", transparency=(7, 7, 7))
    refused(tmp_path / "present.png", "16 transparent pixels")


@pytest.mark.parametrize(("color_type", "channels"), [(0, 0), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_scaled_exactly(tmp_path, color_type, channels):
    shape = (24, 32, channels) if channels else (24, 32)
    samples = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    if channels in (2, 4):
        samples[..., -1] = 65535
    path = tmp_path / "x.png"
    path.write_bytes(png_of_samples(samples, bits=16, color_type=color_type))
    wanted = np.round(samples / 257.0).astype(np.uint8)
    wanted = wanted[..., :-1] if channels in (2, 4) else wanted
    wanted = np.broadcast_to(wanted.reshape(24, 32, -1), (24, 32, 3))
    assert np.array_equal(read(path), wanted)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_tiff_is_scaled_exactly(tmp_path, order, deflate, channels):
    shape = (9, 7, 3) if channels == 3 else (9, 7)
    samples = np.random.default_rng(1).integers(0, 65536, shape, dtype=np.uint16)
    (tmp_path / "x.tif").write_bytes(tiff_of_samples(samples, order=order, deflate=deflate))
    wanted = np.broadcast_to(np.round(samples / 257.0).reshape(9, 7, -1), (9, 7, 3))
    assert np.array_equal(read(tmp_path / "x.tif"), wanted)


def test_twelve_bits_in_sixteen_are_refused_and_black_is_not(tmp_path):
    samples = np.random.default_rng(0).integers(0, 4096, (24, 32), dtype=np.uint16)
    refused(save(tmp_path / "x.png", samples), "no value above 40.*rescale")
    assert read(save(tmp_path / "black.png", samples * 0)).max() == 0


def test_float_specs_get_a_files_range_mapped_to_theirs(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = read(save(tmp_path / "x.png", ramp), UNIT)[..., 0]
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, ramp / 127.5 - 1, atol=1e-6)
    assert values.min() == -1
    assert values.max() == 1
    wide = np.array([[0, 65535], [13107, 52428]], dtype=np.uint16)
    values = read(save(tmp_path / "w.png", wide), UNIT)[..., 0]
    np.testing.assert_allclose(values, [[-1, 1], [-0.6, 0.6]], atol=1e-6)


def test_float_files_are_taken_as_they_are_or_refused(tmp_path):
    pixels = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    path = save(tmp_path / "x.tif", pixels)
    assert np.array_equal(read(path, UNIT)[..., 0], pixels)
    refused(path, "floating-point")
    path = save(tmp_path / "y.tif", pixels * 2)
    refused(path, "from -2 to 2.*-1 to 1", lambda p: read_image(p, UNIT))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"x.{ending}", photo(), exif=exif, **options)
    with Image.open(path) as image:
        wanted = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(read(path), wanted)
    assert image_size(path) == wanted.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_is_what_pillow_does(orientation):
    image = Image.fromarray(photo())
    image.getexif()[0x0112] = orientation
    assert np.array_equal(turn(photo(), orientation), np.array(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "gif", "bmp"])
@pytest.mark.parametrize("kept", [0.02, 0.6, 0.95])
def test_truncated_files_are_refused(tmp_path, ending, kept):
    path = save(tmp_path / f"x.{ending}", photo(96, 96))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    refused(path, "truncated or corrupt|is no JPEG")


def test_other_bad_files_are_refused(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", "is empty")
    (tmp_path / "text.jpg").write_text("<html>404 not found</html>")
    refused(tmp_path / "text.jpg", "is no JPEG, PNG, TIFF, WebP, GIF or BMP")
    (tmp_path / "sound.webp").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    refused(tmp_path / "sound.webp", "is no JPEG")
    refused(tmp_path / "missing.png", "No such file")
    path = save(tmp_path / "flipped.png", photo())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    refused(path, "truncated or corrupt")


def test_decompression_bombs_are_refused_without_a_warning(tmp_path):
    """Warnings are errors here, so that Pillow's own would be seen."""
    bomb = png_of_samples(np.zeros((1, 8), np.uint8), bits=1, color_type=0)
    claimed = (20_000).to_bytes(4, "big") * 2
    import zlib

    header = b"IHDR" + claimed + bomb[24:29]
    bomb = bomb[:12] + header + zlib.crc32(header).to_bytes(4, "big") + bomb[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    refused(tmp_path / "bomb.png", re.escape("20000x20000 pixels, more than the 178,956,970"))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_large_images_below_the_limit_do_not_warn(tmp_path, monkeypatch, ending):
    path = save(tmp_path / f"x.{ending}", photo())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 32 * 2 // 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 24 * 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(path), photo())


def test_several_images_in_one_file_are_refused(tmp_path):
    images = [Image.fromarray(photo(seed=seed)) for seed in (0, 1)]
    for ending in ("gif", "webp", "tif", "png"):
        path = tmp_path / f"x.{ending}"
        images[0].save(path, save_all=True, append_images=images[1:])
        refused(path, "holds 2 images")


def test_smaller_copies_in_a_tiff_are_no_further_images(tmp_path):
    image = Image.fromarray(photo())
    image.save(tmp_path / "x.tif", save_all=True, append_images=[image.resize((16, 12))])
    assert np.array_equal(read(tmp_path / "x.tif"), photo())


def test_further_channels_are_refused(tmp_path):
    samples = np.dstack([photo(), photo(seed=1)[..., :1]])
    (tmp_path / "x.tif").write_bytes(tiff_of_samples(samples, extra=0))
    refused(tmp_path / "x.tif", "4 channels, of which only 3")
    refused(
        save(tmp_path / "y.png", photo()),
        "images of 4 channels",
        lambda p: read_image(p, ImageSpec(channels=4)),
    )


@pytest.mark.parametrize(
    ("stored", "size", "decoded"),
    [
        ((720, 1280), (128, 128), (180, 320)),
        ((720, 1280), (130, 130), (360, 640)),
        ((720, 1280), (64, 64), (90, 160)),
        ((720, 1280), (360, 640), None),
        ((723, 1283), (128, 128), (181, 321)),
        ((40, 1000), (20, 20), None),
        ((9, 9), (1, 1), (3, 3)),
    ],
)
def test_a_jpeg_is_decoded_no_larger_than_it_need_be(tmp_path, stored, size, decoded):
    path = save(tmp_path / "x.jpg", scenery(*stored))
    with open_image(path) as image:
        small = load_shrunk(image, path, size)
        assert (small and image.size[::-1]) == decoded
        assert small is None or small.size[::-1] == size
    assert read_image_and_frame(path, RGB, size=size)[1].size == stored


@pytest.mark.parametrize("size", [(128, 128), (64, 96), (20, 200)])
@pytest.mark.parametrize("stored", [(720, 1280), (717, 1273), (481, 321)])
def test_a_small_jpeg_is_what_the_whole_would_give(tmp_path, stored, size):
    path = save(tmp_path / "x.jpg", scenery(*stored), quality=90)
    assert difference(path, size) < 1.5


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_can_be_small(tmp_path, mode, options):
    image = Image.fromarray(scenery(480, 640)).convert(mode)
    image.save(tmp_path / "x.jpg", quality=90, **options)
    for spec in [RGB, UNIT, GREY] if mode == "L" else [RGB]:
        assert 0 < difference(tmp_path / "x.jpg", (96, 96), spec) < 1.5


@pytest.mark.skipif(not (DATA / "camvid").exists(), reason="shared data not present")
def test_small_photos_are_what_the_whole_would_give():
    camvid = sorted((DATA / "camvid/train/images").glob("*.jpg"))[::60]
    bsds = sorted((DATA / "bsds500/train/images").glob("*.jpg"))[::40]
    for size in ((128, 128), (64, 64), (224, 100)):
        found = [difference(path, size) for path in camvid + bsds]
        assert max(found) < 3
        assert np.mean(found) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_turned_images_are_turned_when_small(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"x.{ending}", scenery(240, 400), exif=exif)
    assert difference(path, (40, 60)) < (2 if ending == "jpg" else 1e-9)
    whole = (240, 400) if orientation < 5 else (400, 240)
    assert read_image_and_frame(path, RGB, size=(40, 60))[1].size == whole
    assert read_image_and_frame(path, RGB)[1].size == whole


def test_checks_of_a_whole_jpeg_are_made_when_it_is_small(tmp_path):
    def reader(spec):
        return lambda path: read_image(path, spec, size=(16, 16))

    spot = np.full((256, 256, 3), 100, np.uint8)
    spot[8:16, 8:16, 0] = 200
    refused(save(tmp_path / "spot.jpg", spot), "colour image", reader(GREY))
    path = save(tmp_path / "cut.jpg", scenery(256, 256))
    path.write_bytes(path.read_bytes()[:-2000])
    refused(path, "truncated or corrupt", reader(RGB))
